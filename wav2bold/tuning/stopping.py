"""Early stopping whose decisions don't depend on which of several running trials was faster.

Trials are proposed in batches. Those of one batch run side by side, and which of them reports first is
chance; so a trial is held against earlier batches only. The same seed then stops the same trials on any
machine. Trials carry their number in their config, `task.number`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
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
    """Stops a trial that is worse than the median of what earlier batches had at its age."""

    def __init__(self, batch: int, **options: Any) -> None:
        # an endless slice: no trial is ever paused for others, it would have to begin anew
        super().__init__(min_time_slice=ENDLESS, **options)
        self._batch = batch

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


@dataclass(frozen=True, eq=False)
class Past:
    """A trial of an earlier life of the sweep: as much of it as a scheduler looks at."""

    trial_id: str
    config: dict[str, Any]


def remember(scheduler: TrialScheduler, number: int, scores: Sequence[float], *, finished: bool) -> None:
    """Tell a scheduler of a trial that ended before. scores: by epoch.  finished: not by an error."""
    past: Any = Past(f"past-{number}", {"task": {"number": number}})
    nobody: Any = None  # no controller is asked anything
    scheduler.on_trial_add(nobody, past)
    report: dict[str, Any] = {}
    for iteration, best in enumerate(accumulate(scores, max), 1):
        report = {"training_iteration": iteration, METRIC: best}
        scheduler.on_trial_result(nobody, past, report)
    if finished and report:
        scheduler.on_trial_complete(nobody, past, report)


def stopping_of(study: Study) -> Stopping:
    """What ends poor trials early."""
    return study.search.stopping or ("none" if study.search.sampler == "nsgaii" else "asha")


def scheduler_for(study: Study) -> TrialScheduler:
    """The scheduler that the study asks for."""
    epochs, kind = longest_refinement(study), stopping_of(study)
    if kind == "none":
        return FIFOScheduler()
    options = {
        "time_attr": "training_iteration",
        "metric": METRIC,
        "mode": "max",
        "grace_period": min(study.search.grace_epochs, epochs) + 1,
    }
    if kind == "median":
        return BatchedMedian(study.search.parallel, min_samples_required=TO_COMPARE, **options)
    return BatchedASHA(
        study.search.parallel,
        max_t=epochs + 1,
        reduction_factor=study.search.reduction,
        stop_last_trials=False,
        **options,
    )


def longest_refinement(study: Study) -> int:
    """The most epochs of stage 2 that a trial may have."""
    epochs = study.search.space.epochs
    return max(study.configuration.epochs, 0 if epochs is None else epochs.high)
