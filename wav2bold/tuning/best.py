"""The best configuration that a sweep found, as MLflow remembers it."""

import math
from collections.abc import Iterable
from pathlib import Path

from wav2bold.config import Study
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.tracking import Tracker, Trial


def best(study: Study, out: Path | None = None) -> Trial:
    """The finished trial of the newest sweep with the highest brain score; MLflow alone is asked.

    out: write its configuration there, as YAML that `refine` takes.
    Raises TrackingError if there is no sweep or none of its trials has a score.
    """
    tracker = Tracker(study, make=False)
    trials = tracker.trials(tracker.newest_sweep())
    winner = winner_of(trials)
    if winner is None:
        raise TrackingError(
            f"no trial of the newest sweep of {study.name} has finished (MLflow at {masked(tracker.uri)})",
            "wait for it, or see its runs for what went wrong",
        )
    if out is not None:
        winner.configuration.save(
            Path(out),
            f"Best of {len(trials)} trials of study {study.name}: trial {winner.number}, "
            f"brain score {winner.best_score:.4f} on the validation stories\nMLflow run {winner.run_id}",
        )
    return winner


def winner_of(trials: Iterable[Trial]) -> Trial | None:
    """The finished trial with the highest brain score, the earlier one of equals; None if none has one."""
    finished = [trial for trial in trials if trial.status == "FINISHED" and math.isfinite(trial.best_score)]
    return max(finished, key=lambda trial: (trial.best_score, -trial.number), default=None)
