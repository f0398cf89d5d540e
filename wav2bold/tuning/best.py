"""The best configurations that a sweep found, as MLflow remembers them."""

import math
from collections.abc import Iterable
from pathlib import Path

from wav2bold.config import Study
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.outbox import opened
from wav2bold.tuning.tracking import Trial


def best(study: Study, out: Path | None = None, where: str | None = None) -> Trial:
    """The finished trial of the newest sweep with the highest brain score; MLflow alone is asked.

    out: write its configuration there, as YAML that `refine` takes.  where: as `ranked` takes it.
    Raises TrackingError if there is no sweep or none of its trials has a score.
    """
    trials = ranked(study, where)
    winner = trials[0]
    if out is not None:
        winner.configuration.save(
            Path(out),
            f"Best of {len(trials)} trials of study {study.name}: trial {winner.number}, "
            f"brain score {winner.best_score:.4f} on the validation stories\nMLflow run {winner.run_id}",
        )
    return winner


def ranked(study: Study, where: str | None = None) -> list[Trial]:
    """All finished trials of the newest sweep, the best first; at least one.

    where: a filter of MLflow that they must pass, such as "params.history_tr = '6'".
    Raises TrackingError if there is no such trial, or the filter can't be read.
    """
    tracker = opened(study, make=False)
    trials = by_score(tracker.trials(tracker.newest_sweep(), where))
    if trials:
        return trials
    if where is not None:
        raise TrackingError(
            f"no finished trial of the newest sweep of {study.name} has {where}",
            "mend --where; the parameters' names and values are on MLflow's page, and in `best --json`",
        )
    raise TrackingError(
        f"no trial of the newest sweep of {study.name} has finished (MLflow at {masked(tracker.uri)})",
        "wait for it, or see its runs for what went wrong",
    )


def by_score(trials: Iterable[Trial]) -> list[Trial]:
    """Finished trials that have a score, the best first, of equals the earlier one."""
    finished = [trial for trial in trials if trial.status == "FINISHED" and math.isfinite(trial.best_score)]
    return sorted(finished, key=lambda trial: (-trial.best_score, trial.number))


def winner_of(trials: Iterable[Trial]) -> Trial | None:
    """The finished trial with the highest brain score, the earlier one of equals; None if none has one."""
    return next(iter(by_score(trials)), None)


def pareto(trials: Iterable[Trial]) -> list[Trial]:
    """Finished trials than which no other scores as high and trains fewer parameters, the best first.

    Raises TrackingError if nobody counted what they train.
    """
    counted = [trial for trial in by_score(trials) if trial.trained_parameters is not None]
    if not counted:
        raise TrackingError("the newest sweep counted no trained parameters", "sweep again for --pareto")
    front: list[Trial] = []
    for trial in sorted(counted, key=lambda one: (-one.best_score, _trained(one))):
        if not front or _trained(trial) < _trained(front[-1]):
            front.append(trial)
    return front


def _trained(trial: Trial) -> int:
    assert trial.trained_parameters is not None, "only counted trials are compared"
    return trial.trained_parameters
