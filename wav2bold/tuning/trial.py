"""A warm trial: an actor that keeps encoder and data between configurations."""

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from ray import tune

from wav2bold.config import Configuration, Study
from wav2bold.errors import UserError
from wav2bold.imports import importing

if TYPE_CHECKING:
    from wav2bold.trainables.scores import Report

METRIC = "best_score"


class WarmTrial(tune.Trainable):
    """Refines one configuration after another without being started anew.

    Its config is {"task": ...}, as `workshop.Task` has it. Each step is an epoch. Whoever is killed before
    the task's folder stands goes on from its last epoch when the same task is given again. Where the study
    has several workers share a trial, they do the work, and are started for each.
    """

    _epochs: "Generator[Report, None, None] | None" = None
    _best: float

    def setup(self, config: dict[str, Any], study: dict[str, Any] | None = None, cpus: float = 1) -> None:
        """Take the first configuration. study: a `Study` as JSON, paths absolute.  cpus: threads to use."""
        with importing():  # here, since Ray itself imports this file, and takes longer
            import torch

            from wav2bold.tuning.workshop import Workshop

        torch.set_num_threads(max(int(cpus), 1))
        self._workshop = Workshop(Study.model_validate(study))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration; what was loaded stays."""
        self.cleanup()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch; the last one also writes the refined encoder, where that was asked for.

        A user's mistake ends the trial with its sentence as `failed`; any other error is raised.
        The first one also loads what is missing: what goes wrong there is then this trial's own failure,
        while a failing `setup` would be Ray's, and the trial would never have begun.
        """
        try:
            if self._epochs is None:
                self._epochs = self._reports()
            report = next(self._epochs)
            self._best = max(self._best, report.score) if self._keeps_best else report.score
            if report.last:
                for _ in self._epochs:
                    raise AssertionError("refine yielded more epochs than its configuration has")
        except UserError as error:
            # raised, it would count as the trial's death: Ray would try again what can't come out otherwise
            return {METRIC: math.nan, "failed": str(error), "done": True}
        return {
            "epoch": report.epoch,
            "loss": report.loss,
            "score": report.score,
            "white_score": report.white_score,
            METRIC: self._best,
            "seconds": report.seconds,
            "note": report.note,
            "failed": "",
            "last": report.last,
            "done": report.last,
        }

    def cleanup(self) -> None:
        """Let go of a trial that was stopped early."""
        if self._epochs is not None:
            self._epochs.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial with `out` keeps a checkpoint of its own, and the others are short."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, as `save_checkpoint`."""

    def _reports(self) -> "Generator[Report, None, None]":
        if self._workshop.study.search.workers == 1:
            return self._workshop.reports(self._task)
        from wav2bold.tuning.workers import reports_by_workers  # Ray Data takes a second to import

        return reports_by_workers(self._workshop, self._task)

    def _begin(self, config: dict[str, Any]) -> None:
        self._task = config["task"]
        self._keeps_best = Configuration.model_validate(self._task["configuration"]).keeps_best
        self._best = float("-inf")
        self._epochs = None
