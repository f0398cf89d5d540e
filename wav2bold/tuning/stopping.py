"""Early stopping whose decisions don't depend on which of several running trials was faster.

Trials are proposed in batches. Those of one batch run side by side, and which of them reports first is
chance; so a trial is held against earlier batches only. The same seed then stops the same trials on any
machine. Trials carry their number in their config, `task.number`. Where they refine subject by subject, they
report after each, and are compared by what they had on the same subjects.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from wav2bold.config import Stopping, Study
from wav2bold.tuning.trial import METRIC

TO_COMPARE = 3
"""Trials whose median is worth comparing with: what Ray and Vizier take."""
ENDLESS: Any = float("inf")  # Ray's type says whole numbers, and nothing in it needs one


class BatchedASHA(AsyncHyperBandScheduler):
    """Asynchronous successive halving that compares a trial with earlier batches only."""

    def __init__(self, batch: int, **options: Any) -> None:
        super().__init__(**options)
        self._batch = batch
        self._peers: dict[int, set[str]] = defaultdict(set)

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Note whose peer the trial is."""
        super().on_trial_add(tune_controller, trial)
        self._peers[trial.config["task"]["number"] // self._batch].add(trial.trial_id)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Whether the trial goes on, judged with its peers' results out of sight."""
        peers = self._peers[trial.config["task"]["number"] // self._batch] - {trial.trial_id}
        rungs = self._trial_info[trial.trial_id]._rungs  # noqa: SLF001  # Ray has no public way to a rung
        hidden = [
            (recorded, peer, recorded.pop(peer)) for _, recorded in rungs for peer in peers & recorded.keys()
        ]
        decision: str = super().on_trial_result(tune_controller, trial, result)
        for recorded, peer, score in hidden:
            recorded[peer] = score
        return decision


class BatchedMedian(MedianStoppingRule):
    """Stops a trial that is worse than the median of what earlier batches had at its age.

    over_subjects: whether a report is of one more subject, not of one more epoch. Then what matters at an age
    is the report of that age: a score on fewer subjects is no better or worse one.
    """

    def __init__(self, batch: int, *, over_subjects: bool = False, **options: Any) -> None:
        # an endless slice: no trial is ever paused for others, it would have to begin anew
        super().__init__(min_time_slice=ENDLESS, **options)
        self._batch, self._over_subjects = batch, over_subjects

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """A trial begins, maybe anew: what it told before it died would count twice."""
        self._results.pop(trial, None)
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Whether the trial goes on, judged with its peers' results out of sight."""
        own = trial.config["task"]["number"] // self._batch
        peers = [
            other
            for other in self._results
            if other is not trial and other.config["task"]["number"] // self._batch == own
        ]
        hidden = {peer: self._results.pop(peer) for peer in peers}
        decision: str = super().on_trial_result(tune_controller, trial, result)
        self._results.update(hidden)
        return decision

    def _running_mean(self, trial: Trial, time: float) -> Any:
        if not self._over_subjects:
            return super()._running_mean(trial, time)
        return next(one[METRIC] for one in self._results[trial] if one[self._time_attr] == time)

    def _best_result(self, trial: Any) -> Any:
        if not self._over_subjects:
            return super()._best_result(trial)  # type: ignore[no-untyped-call]  # Ray says no types of it
        return self._results[trial][-1][METRIC]


@dataclass(frozen=True, eq=False)
class Past:
    """A trial of an earlier life of the sweep: as much of it as a scheduler looks at."""

    trial_id: str
    config: dict[str, Any]


def remember(scheduler: TrialScheduler, number: int, told: Sequence[float], *, finished: bool) -> None:
    """Tell a scheduler of a trial that ended before.

    told: its score in each report.  finished: not by an error.
    """
    past: Any = Past(f"past-{number}", {"task": {"number": number}})
    nobody: Any = None  # no controller is asked anything
    scheduler.on_trial_add(nobody, past)
    report: dict[str, Any] = {}
    for iteration, score in enumerate(told, 1):
        report = {"training_iteration": iteration, METRIC: score}
        scheduler.on_trial_result(nobody, past, report)
    if finished and report:
        scheduler.on_trial_complete(nobody, past, report)


def stopping_of(study: Study) -> Stopping:
    """What ends poor trials early."""
    return study.search.stopping or ("none" if study.search.sampler == "nsgaii" else "asha")


def scheduler_for(study: Study, subjects: int = 1) -> TrialScheduler:
    """The scheduler that the study asks for. subjects: how many a trial reports of, where it does of each."""
    kind, over_subjects = stopping_of(study), study.search.objective is not None
    most = subjects if over_subjects else longest_refinement(study) + 1
    if kind == "none":
        return FIFOScheduler()
    options = {
        "time_attr": "training_iteration",
        "metric": METRIC,
        "mode": "max",
        "grace_period": 1 if over_subjects else min(study.search.grace_epochs + 1, most),
    }
    if kind == "median":
        return BatchedMedian(
            study.search.parallel,
            over_subjects=over_subjects,
            min_samples_required=TO_COMPARE,
            **options,
        )
    return BatchedASHA(
        study.search.parallel,
        max_t=most,
        reduction_factor=study.search.reduction,
        stop_last_trials=False,
        **options,
    )


def longest_refinement(study: Study) -> int:
    """The most epochs of stage 2 that a trial may have."""
    epochs = study.search.space.epochs
    return max(study.configuration.epochs, 0 if epochs is None else epochs.high)
