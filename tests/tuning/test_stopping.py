"""Successive halving whose decisions are the same whichever trial of a batch reports first."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from wav2bold.tuning.stopping import BatchedASHA

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
    return SimpleNamespace(trial_id=f"t{number}", config={"task": {"number": number}})


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
