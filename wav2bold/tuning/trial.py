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
    from wav2bold.tuning.workshop import Task

METRIC = "best_score"


class WarmTrial(tune.Trainable):
    """Refines one configuration after another without being started anew.

    Its config is {"task": ...}, as `workshop.Task` has it. Each step is an epoch; or a subject's whole
    refinement, where each is refined by itself. Whoever is killed before the task's folder stands goes on
    from its last epoch when the same task is given again. Where the study has several workers share a trial,
    they do the work, and are started for each.
    """

    _epochs: "Generator[Report, None, None] | None" = None
    _best: float

    def setup(self, config: dict[str, Any], study: dict[str, Any] | None = None, cpus: float = 1) -> None:
        """Take the first configuration. study: a `Study` as JSON, paths absolute.  cpus: threads to use."""
        with importing():  # here, since Ray itself imports this file, and takes longer
            import torch

            from wav2bold.tuning.footprint import Footprint
            from wav2bold.tuning.workshop import Workshop

        torch.set_num_threads(max(int(cpus), 1))
        self._workshop = Workshop(Study.model_validate(study))
        self._footprint = Footprint()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration; what was loaded stays."""
        self.cleanup()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch or subject; the last epoch also writes the refined encoder, where that was asked for.

        A user's mistake ends the trial with its sentence as `failed`; any other error is raised.
        The first one also loads what is missing: what goes wrong there is then this trial's own failure,
        while a failing `setup` would be Ray's, and the trial would never have begun.
        """
        try:
            told = self._next_epoch() if self._task.get("reduce") is None else self._next_subject()
        except UserError as error:
            # raised, it would count as the trial's death: Ray would try again what can't come out otherwise
            return {METRIC: math.nan, "failed": str(error), "done": True}
        # several workers have processes of their own
        return told | {
            "system": self._footprint.figures() if self._workshop.study.search.workers == 1 else {}
        }

    def cleanup(self) -> None:
        """Let go of a trial that was stopped early."""
        if self._epochs is not None:
            self._epochs.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial with `out` keeps a checkpoint of its own, and the others are short."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, as `save_checkpoint`."""

    def _next_epoch(self) -> dict[str, Any]:
        if self._epochs is None:
            self._epochs = self._reports(self._task)
        report = next(self._epochs)
        self._best = self._kept(report)
        if report.last:
            for _ in self._epochs:
                raise AssertionError("refine yielded more epochs than its configuration has")
        return {
            "epoch": report.epoch,
            "loss": report.loss,
            "score": report.score,
            "white_score": report.white_score,
            METRIC: self._best,
            "seconds": report.seconds,
            "drift": report.drift,
            "note": report.note,
            "failed": "",
            "last": report.last,
            "done": report.last,
        }

    def _next_subject(self) -> dict[str, Any]:
        """Refine the next subject; the score is what the task makes of all so far, drift their mean."""
        from wav2bold.tuning.goals import REDUCTIONS

        everyone = self._task["subjects"]
        number = len(self._told)
        subject = everyone[number]
        self._best = -math.inf
        self._epochs = self._reports({**self._task, "subjects": [subject]})
        for report in self._epochs:
            self._best = self._kept(report)
        if report.note:
            self._notes.append(f"{subject}: {report.note}")
        self._told.append((self._best, report.drift, report.seconds))
        scores, drifts, seconds = zip(*self._told, strict=True)
        score = REDUCTIONS[self._task["reduce"]](scores)
        last = number + 1 == len(everyone)
        return {
            "epoch": number,
            "subject": subject,
            "subject_score": self._best,
            "score": score,
            METRIC: score,
            "seconds": sum(seconds),
            "drift": sum(drifts) / len(drifts),
            "note": "; ".join(self._notes),
            "failed": "",
            "last": last,
            "done": last,
        }

    def _kept(self, report: "Report") -> float:
        """The score of the epoch that is kept so far."""
        return max(self._best, report.score) if self._keeps_best else report.score

    def _reports(self, task: "Task") -> "Generator[Report, None, None]":
        if self._workshop.study.search.workers == 1:
            return self._workshop.reports(task)
        from wav2bold.tuning.workers import reports_by_workers  # Ray Data takes a second to import

        return reports_by_workers(self._workshop, task)

    def _begin(self, config: dict[str, Any]) -> None:
        self._task = config["task"]
        self._keeps_best = Configuration.model_validate(self._task["configuration"]).keeps_best
        self._best = -math.inf
        self._epochs = None
        self._told: list[tuple[float, float, float]] = []
        self._notes: list[str] = []
