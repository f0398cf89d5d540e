"""A sweep that begins warm knows what another found, as far as that is about the same thing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import made_up
import optuna
import pytest

from wav2bold.config import Configuration, Search, Study
from wav2bold.errors import TrackingError
from wav2bold.tuning.asking import Asking
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.resuming import identity, marked
from wav2bold.tuning.space import Proposals
from wav2bold.tuning.storage import open_memory
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.warm import known_trials, source_of


class Digest:
    digest = "of an encoder"


ENCODER: Any = Digest()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def study(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return made_up.findings().study.model_copy(update={"name": tmp_path.name, "results": results})


def trial(number: int, score: float, status: str = "FINISHED", **options: Any) -> Trial:
    return Trial(f"run{number}", number, status, Configuration(**options), (score,), score, 1.0)


def counted(configuration: Configuration) -> int:
    return 100 * len(configuration.unfrozen)


def test_finished_trials_of_the_space_are_known_and_no_others(study: Study) -> None:
    trials = [
        trial(0, 0.1),
        trial(1, 0.2, "FAILED"),
        trial(2, 0.3, history=40),
        trial(3, float("nan")),
        trial(4, 0.5, unfrozen={}),
    ]
    known = known_trials(trials, Proposals(study, 4, ()), counted)
    assert [(one.run_id, one.goals) for one in known] == [("run0", [0.1, 200.0]), ("run4", [0.5, 0.0])]


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_what_is_known_comes_before_the_sweeps_own_trials_and_is_known_once(
    study: Study, sampler: Any
) -> None:
    of = study.model_copy(update={"search": Search(sampler=sampler)})
    proposals = Proposals(of, 4, ())
    known = known_trials([trial(0, 0.1), trial(1, 0.5, history=3)], proposals, counted)
    open_memory(of, study.name, proposals, known[:1])  # killed after the first
    memory = optuna.load_study(
        study_name=f"{of.name}/{study.name}", storage=f"sqlite:///{of.results / 'optuna.db'}"
    )
    assert len(memory.trials) == 2
    search = Asking(open_memory(of, study.name, proposals, known), proposals, counted, 12, {})
    first = search.suggest("a")["task"]
    assert first["number"] == 0
    assert Configuration.model_validate(first["configuration"]) == of.configuration
    goals = [0.1, 200.0][: len(memory.directions)]
    assert [one.values for one in memory.trials] == [goals, None]

    memory = open_memory(of, "whole", proposals, known)
    assert [one.params.get("history") for one in memory.trials] == [6, 3, None]
    search = Asking(memory, proposals, counted, 12, {})
    tasks = [search.suggest(name)["task"] for name in ("a", "b")]
    for name in ("a", "b"):
        search.on_trial_complete(name, {"best_score": 0.25})
    assert search.suggest("c")["task"]["number"] == 2
    assert [task["number"] for task in tasks] == [0, 1]
    assert [one.values[0] for one in memory.trials[:4]] == [0.1, 0.5, 0.25, 0.25]

    again = Asking(open_memory(of, "whole", proposals), proposals, counted, 12, {})
    assert again.suggest("d")["task"] == tasks[0]


def test_a_warm_sampler_looks_where_the_other_sweep_was_good(study: Study) -> None:
    """Ten trials of a history of 3 were good, ten others not: more proposals are near 3 than without."""
    bad = [trial(number, 0.1, history=5 + number % 6) for number in range(10)]
    good = [trial(10 + number, 0.5, history=3) for number in range(10)]
    of = study.model_copy(update={"search": Search(parallel=1, trials=12)})
    proposals = Proposals(of, 4, ())
    near = []
    for name, known in (("warm", known_trials([*bad, *good], proposals, counted)), ("cold", [])):
        search = Asking(open_memory(of, name, proposals, known), proposals, counted, 12, {})
        histories = []
        for number in range(12):
            histories.append(search.suggest(f"{number}")["task"]["configuration"]["history"])
            search.on_trial_complete(f"{number}", {"best_score": 0.3})
        near.append(sum(2 <= history <= 4 for history in histories))
    assert near[0] > near[1]


def test_only_a_sweep_whose_scores_can_be_compared_is_taken(study: Study) -> None:
    card = made_up.findings().card
    with pytest.raises(TrackingError, match=f"remembers no sweep of {study.name}"):
        source_of(study, study.name, {})
    mine = identity(study, ENCODER, "of shards", ["sub-001"])
    sweep = Tracker(study).begin("sweep", "sweep", study, card, marked(mine))
    assert source_of(study.model_copy(update={"name": "another"}), study.name, mine) == sweep
    theirs = identity(study, ENCODER, "of other shards", ["sub-002"])
    with pytest.raises(TrackingError) as raised:
        source_of(study, study.name, theirs)
    assert str(raised.value) == (
        f"the newest sweep of {study.name} was scored with other shards, subjects; leave --warm-start out, "
        "or name an experiment of the same data"
    )


def test_asking_for_an_unknown_experiment_makes_none(study: Study) -> None:
    Tracker(study)
    for _ in range(2):
        with pytest.raises(TrackingError, match="remembers no sweep of nobody"):
            source_of(study, "nobody", {})


def test_where_drift_is_the_second_goal_it_is_what_is_known(study: Study) -> None:
    of = study.model_copy(update={"search": Search(sampler="nsgaii", second_goal="drift")})
    trials = [replace(trial(0, 0.1), drift=0.25), trial(1, 0.2)]
    known = known_trials(trials, Proposals(of, 4, ()), counted)
    assert [one.goals for one in known] == [[0.1, 0.25]]


def test_a_trial_without_a_count_is_not_known(study: Study) -> None:
    assert known_trials([trial(0, 0.1)], Proposals(study, 4, ()), lambda _: None) == []
