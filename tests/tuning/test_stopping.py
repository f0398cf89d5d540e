"""Early stopping decides the same whichever trial of a batch reports first, and after a driver was lost."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from wav2bold.config import Configuration, Search, Study
from wav2bold.tuning.stopping import (
    BatchedASHA,
    BatchedMedian,
    longest_refinement,
    remember,
    scheduler_for,
    stopping_of,
)

RUNGS: dict[str, Any] = {
    "metric": "best_score",
    "mode": "max",
    "max_t": 5,
    "grace_period": 1,
    "reduction_factor": 2,
    "stop_last_trials": False,
}


def trial(number: int) -> Any:
    """As much of a trial as a scheduler looks at."""
    return Told(trial_id=f"t{number}", config={"task": {"number": number}})


class Told(SimpleNamespace):
    """Ray's trials are keys of dictionaries."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def study(**search: Any) -> Study:
    return Study(
        name="listeners",
        shards=Path("shards"),
        encoder="encoder",
        split={"validation": ("library",), "test": ("lighthouse",)},
        configuration=Configuration(epochs=4),
        search=Search(**search),
    )


def lived(scheduler: TrialScheduler, numbers: Iterable[int]) -> list[list[str]]:
    """What the scheduler says to every report of trials that run one after the other, until it stops them."""
    said = []
    for number in numbers:
        one, reports = trial(number), curve(number)
        scheduler.on_trial_add(None, one)
        said.append([])
        for iteration, best in enumerate(reports, 1):
            report = {"training_iteration": iteration, "best_score": best}
            said[-1].append(scheduler.on_trial_result(None, one, report))
            if said[-1][-1] == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(None, one, report)
    return said


def curve(number: int) -> list[float]:
    """A trial's best score after each of five reports."""
    random = np.random.default_rng(number)
    return list(np.maximum.accumulate(random.normal(0.3, 0.1, 5)))


def decisions(
    scheduler: AsyncHyperBandScheduler, batches: Sequence[Sequence[int]], scores: Mapping[int, float]
) -> dict[int, str]:
    """What the scheduler says to each trial's first report; a batch is added whole before it reports."""
    said: dict[int, str] = {}
    for batch in batches:
        trials = {number: trial(number) for number in sorted(batch)}
        for one in trials.values():
            scheduler.on_trial_add(None, one)
        for number in batch:
            report = {"training_iteration": 1, "best_score": scores[number]}
            said[number] = scheduler.on_trial_result(None, trials[number], report)
    return said


MEDIAN: dict[str, Any] = {
    "time_attr": "training_iteration",
    "metric": "best_score",
    "mode": "max",
    "grace_period": 1,
    "min_samples_required": 3,
}
SCORES = {0: 0.30, 1: 0.10, 2: 0.20, 3: 0.40, 4: 0.05, 5: 0.35, 6: 0.25, 7: 0.45}


def test_the_order_within_a_batch_changes_no_decision() -> None:
    found = [
        decisions(BatchedASHA(4, **RUNGS), [list(first), list(second)], SCORES)
        for first in permutations(range(4))
        for second in permutations(range(4, 8))
    ]
    assert all(one == found[0] for one in found)
    assert TrialScheduler.STOP in found[0].values()


def test_rays_own_scheduler_does_depend_on_that_order() -> None:
    """Without which the class would be needless."""
    found = [
        decisions(AsyncHyperBandScheduler(**RUNGS), [list(order)], SCORES) for order in permutations(range(4))
    ]
    assert any(one != found[0] for one in found)


def test_one_trial_at_a_time_is_rays_own_scheduler() -> None:
    batches = [[number] for number in SCORES]
    ours = decisions(BatchedASHA(1, **RUNGS), batches, SCORES)
    assert ours == decisions(AsyncHyperBandScheduler(**RUNGS), batches, SCORES)


@pytest.mark.parametrize(("score", "said"), [(0.5, TrialScheduler.CONTINUE), (0.01, TrialScheduler.STOP)])
def test_a_trial_is_held_against_the_batches_before_it(score: float, said: str) -> None:
    found = decisions(BatchedASHA(4, **RUNGS), [[0, 1, 2, 3], [4]], {**SCORES, 4: score})
    assert found[4] == said


def test_peers_are_seen_again_by_the_next_batch() -> None:
    """Hidden while a peer is judged, not forgotten: all four stand in the rung when the next batch comes."""
    scheduler = BatchedASHA(4, **RUNGS)
    decisions(scheduler, [[3, 1, 0, 2]], SCORES)
    later = trial(4)
    scheduler.on_trial_add(None, later)
    recorded = dict(scheduler._trial_info[later.trial_id]._rungs)[1]
    assert recorded == {f"t{number}": SCORES[number] for number in range(4)}


def test_the_median_does_not_ask_for_the_order_within_a_batch() -> None:
    batches = [[0, 1, 2, 3], [4, 5, 6, 7]]
    found = [
        decisions(BatchedMedian(4, **MEDIAN), [batches[0], list(second)], SCORES)
        for second in permutations(batches[1])
    ]
    assert all(one == found[0] for one in found)
    # the median of the first batch is 0.25
    stopped = {number for number, said in found[0].items() if said == TrialScheduler.STOP}
    assert stopped == {4}


def test_what_a_trial_told_before_it_died_moves_no_median() -> None:
    def said(died: bool) -> list[str]:
        scheduler = scheduler_for(study(stopping="median", parallel=1))
        for number, scores in enumerate([(0.1, 0.9), (0.4, 0.4), (0.5, 0.5)]):
            one = trial(number)
            scheduler.on_trial_add(None, one)
            told = scores[:1] if died and number == 0 else ()
            for iteration, score in [*enumerate(told, 1), *enumerate(scores, 1)]:
                if told and iteration == 1 and score == told[0]:
                    scheduler.on_trial_error(None, one)
                    scheduler.on_trial_add(None, one)
                scheduler.on_trial_result(None, one, {"training_iteration": iteration, "best_score": score})
        last = trial(3)
        scheduler.on_trial_add(None, last)
        # means up to the second report: 0.5, or 0.37 if the first trial's first counted twice; 0.4; 0.5
        return [
            scheduler.on_trial_result(None, last, {"training_iteration": iteration, "best_score": 0.45})
            for iteration in (1, 2)
        ]

    assert said(died=False) == [TrialScheduler.CONTINUE, TrialScheduler.STOP]
    assert said(died=True) == said(died=False)


def test_no_trial_is_paused_where_there_is_nothing_to_compare_with() -> None:
    assert set(decisions(BatchedMedian(2, **MEDIAN), [[0, 1]], SCORES).values()) == {TrialScheduler.CONTINUE}


@pytest.mark.parametrize("stopping", ["asha", "median"])
@pytest.mark.parametrize("ended", [1, 5, 8])
def test_a_new_driver_stops_what_the_lost_one_would_have_stopped(stopping: str, ended: int) -> None:
    of = study(stopping=stopping, parallel=2)
    undisturbed = lived(scheduler_for(of), range(16))
    again = scheduler_for(of)
    for number in range(ended):
        remember(again, number, curve(number)[: len(undisturbed[number])], finished=True)
    assert lived(again, range(ended, 16)) == undisturbed[ended:]
    assert any(said[-1] == TrialScheduler.STOP for said in undisturbed[ended:])


def test_what_failed_is_remembered_as_far_as_it_came() -> None:
    of = study(stopping="asha", parallel=1)
    forgotten, remembered = scheduler_for(of), scheduler_for(of)
    remember(remembered, 0, [0.9], finished=False)
    remember(remembered, 1, [], finished=False)
    assert lived(forgotten, [2])[0][0] == TrialScheduler.CONTINUE
    assert lived(remembered, [2])[0][0] == TrialScheduler.STOP


def test_what_the_study_does_not_say_follows_from_its_sampler() -> None:
    assert stopping_of(study()) == "asha"
    assert stopping_of(study(sampler="nsgaii")) == "none"
    assert stopping_of(study(stopping="none")) == "none"
    said = lived(scheduler_for(study(stopping="none")), range(8))
    assert {one for trial in said for one in trial} == {TrialScheduler.CONTINUE}


def test_the_longest_refinement_is_the_studys_or_the_spaces() -> None:
    assert longest_refinement(study()) == 4
    assert longest_refinement(study(space={"epochs": {"low": 1, "high": 9}})) == 9
    assert longest_refinement(study(space={"epochs": {"low": 1, "high": 2}})) == 4
