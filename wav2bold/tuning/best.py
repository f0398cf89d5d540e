"""The best configurations that a sweep found, as MLflow remembers them."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from wav2bold.config import SecondGoal, Study
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.outbox import opened
from wav2bold.tuning.remembered import CERTAINTY, WINNER, Trial


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
    if winner_of(trials) is not None:
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
    """Finished trials that have a score, the best first, of equals the earlier one.

    Those that were stopped before their last subject come after all others: their score is of other people.
    """
    finished = [trial for trial in trials if trial.status == "FINISHED" and math.isfinite(trial.best_score)]
    return sorted(finished, key=lambda trial: (not trial.is_whole, -trial.best_score, trial.number))


def winner_of(trials: Iterable[Trial]) -> Trial | None:
    """The finished trial with the highest brain score, the earlier one of equals; None if none has one."""
    return next((trial for trial in by_score(trials) if trial.is_whole), None)


def pareto(trials: Iterable[Trial], goal: SecondGoal = "trained_parameters") -> list[Trial]:
    """Finished trials than which no other scores as high and has less of a goal, the best first.

    Raises TrackingError if nobody counted it.
    """
    counted = [(trial, amount_of(trial, goal)) for trial in by_score(trials) if trial.is_whole]
    counted = [(trial, has) for trial, has in counted if math.isfinite(has)]
    if not counted:
        name = goal.replace("_", " ")
        raise TrackingError(f"the newest sweep counted no {name}", "sweep again for --pareto")
    front: list[Trial] = []
    least = math.inf
    for trial, has in sorted(counted, key=lambda one: (-one[0].best_score, one[1])):
        if has < least:
            front.append(trial)
            least = has
    return front


def certainty(study: Study, trial: Trial) -> str:
    """How sure it is that a trial betters the paper's; "" unless it is the newest sweep's best."""
    tracker = opened(study, make=False)
    return certainty_in(tracker.tags_of(tracker.newest_sweep()), trial)


def certainty_in(tags: Mapping[str, str], trial: Trial) -> str:
    """The same, from the tags of a sweep."""
    return tags.get(CERTAINTY, "") if tags.get(WINNER) == str(trial.number) else ""


def amount_of(trial: Trial, goal: SecondGoal) -> float:
    """What a trial has of a goal that should be small; NaN if nobody counted."""
    has = trial.drift if goal == "drift" else trial.trained_parameters
    return math.nan if has is None else has
