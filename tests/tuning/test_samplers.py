"""A sampler proposes the same trials whether its process lives on or is ended at any moment."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from wav2bold.config import Configuration, Lora, Sampler, Search, Study
from wav2bold.errors import StudyError
from wav2bold.tuning.samplers import directions, refuse_branches, sampler_for
from wav2bold.tuning.space import Proposals

optuna.logging.set_verbosity(optuna.logging.ERROR)
PLAIN: dict[str, Any] = {"unfrozen": None, "ranges": "own"}
SAMPLERS = ["tpe", "gp", "random", "nsgaii", "cmaes"]


def study(sampler: Sampler, space: dict[str, Any] | None = None, seed: int = 0, **own: Any) -> Study:
    return Study(
        name="listeners",
        shards=Path("shards"),
        encoder="encoder",
        split={"validation": ("library",), "test": ("lighthouse",)},
        seed=seed,
        configuration=Configuration(**own),
        search=Search(sampler=sampler, trials=12, space=space or {}),
    )


def score(configuration: Configuration) -> float:
    """Best at a history of 6, a penalty of 1 and a rate of 2e-4."""
    bends = (
        configuration.history - 6,
        math.log(configuration.head_l2),
        math.log(configuration.encoder_lr / 2e-4),
    )
    return -sum(bend**2 for bend in bends)


def search(of: Study, trials: int, *, mortal: bool) -> list[Configuration]:
    """What is proposed. mortal: the sampler is another one for each trial, and again within a trial."""
    memory = optuna.create_study(sampler=sampler_for(of), directions=directions(of))
    proposals = Proposals(of, 3, ())
    memory.enqueue_trial(proposals.first_point())
    found = []
    for number in range(trials):
        if mortal:
            memory.sampler = sampler_for(of)
        trial = memory.ask()
        if mortal and number > 0:  # its process ended after the first parameter
            trial.suggest_int("history", of.search.space.history.low, of.search.space.history.high)
            memory.sampler = sampler_for(of)
            trial = optuna.trial.Trial(memory, trial._trial_id)
        chosen = proposals.configuration(trial)
        found.append(chosen)
        memory.tell(trial, [score(chosen), len(chosen.unfrozen)][: len(memory.directions)])
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_that_is_ended_at_every_trial_proposes_what_it_would_have(sampler: Sampler) -> None:
    of = study(sampler, None if sampler in ("tpe", "random", "nsgaii") else PLAIN)
    trials = 6 if sampler == "gp" else 14  # a Gaussian process takes its time; four are drawn at random
    alive = search(of, trials, mortal=False)
    assert search(of, trials, mortal=True) == alive
    assert len({one.digest for one in alive}) > trials // 2  # a child of nsgaii may be its parent again
    assert search(of.model_copy(update={"seed": 1}), 2, mortal=False)[1:] != alive[1:2]


def test_without_that_care_an_ended_sampler_does_propose_others() -> None:
    of = study("random")
    found = []
    for mortal in (True, False):
        memory = optuna.create_study(sampler=optuna.samplers.RandomSampler(0), direction="maximize")
        for _ in range(3):
            if mortal:
                memory.sampler = optuna.samplers.RandomSampler(0)
            trial = memory.ask()
            found.append(Proposals(of, 3, ()).configuration(trial))
            memory.tell(trial, 0.0)
    assert found[:3] != found[3:]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_sampler_learns_from_what_it_is_told(sampler: Sampler) -> None:
    """Against random proposals of the same seed: the mean of the last ten is better."""
    learnt, blind = (search(study(kind, PLAIN), 30, mortal=False)[-10:] for kind in (sampler, "random"))
    assert sum(map(score, learnt)) > sum(map(score, blind))


def test_two_goals_are_both_followed() -> None:
    """In later generations what is trained becomes less, and scores don't fall below random ones."""
    found = search(study("nsgaii"), 60, mortal=False)
    blind = search(study("random"), 60, mortal=False)
    assert sum(len(one.unfrozen) for one in found[-20:]) < sum(len(one.unfrozen) for one in blind[-20:])
    assert sum(map(score, found[-20:])) > sum(map(score, blind[-20:]))


@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
def test_a_sampler_without_branches_refuses_a_space_that_has_some(sampler: Sampler) -> None:
    of = study(sampler)
    with pytest.raises(StudyError) as raised:
        refuse_branches(of, Proposals(of, 3, ()))
    assert str(raised.value) == (
        f"search.sampler: {sampler} can't search a space in which only some trials have encoder_lr, head_lr, "
        "first_layer, layer_span; take tpe, or fix what is unfrozen (search.space: {unfrozen: null})"
    )
    for own, space in (({}, PLAIN), ({"lora": Lora()}, {"unfrozen": []})):
        possible = study(sampler, space, **own)
        refuse_branches(possible, Proposals(possible, 3, ()))


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsgaii"])
def test_a_sampler_with_branches_takes_any_space(sampler: Sampler) -> None:
    refuse_branches(study(sampler), Proposals(study(sampler), 3, ()))
