"""ASHA whose decisions don't depend on which of several running trials was faster."""

from collections import defaultdict
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler


class BatchedASHA(AsyncHyperBandScheduler):
    """Asynchronous successive halving that compares a trial with earlier batches only.

    Trials are proposed in batches. Those of one batch run side by side, and which of them reports
    first is chance; so a trial is held against the rungs as earlier batches left them. The same
    seed then stops the same trials on any machine. Trials carry their number in their config, `task.number`.
    """

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
