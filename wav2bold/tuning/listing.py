"""Runs and trials as tables for the terminal (rich) and as what JSON can hold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from wav2bold.config import SecondGoal
from wav2bold.errors import TrackingError
from wav2bold.pages.words import duration
from wav2bold.tuning.remembered import OF_SUBJECT, Remembered, Trial, flat
from wav2bold.tuning.subset_scores import SubsetScore, averaged
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.trial_words import status, unfrozen

SHORT = 8
"""Characters of a run's id that are shown: enough to tell runs apart, and to name one by."""


def trials_table(trials: Sequence[Trial], goal: SecondGoal = "trained_parameters") -> Table:
    """A row per trial, in the order given. goal: which has a column beside the score."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    second = "drift" if goal == "drift" else "parameters"
    for name in ("trial", "run", "score", "history", second, "rate", "status", "trained"):
        right = name in ("trial", "score", "history", second, "rate")
        table.add_column(
            name, justify="right" if right else "left", no_wrap=name not in ("status", "trained")
        )
    for trial in trials:
        chosen, count, drift = trial.configuration, trial.trained_parameters, trial.drift
        if goal == "drift":
            has = "" if drift is None else f"{drift:.2g}"
        else:
            has = "" if count is None else f"{count:,}"
        table.add_row(
            str(trial.number),
            trial.run_id[:SHORT],
            _score(trial.best_score),
            str(chosen.history),
            has,
            f"{chosen.encoder_lr:.1g}" if chosen.refines else "",
            status(trial) if not trial.reason else f"failed: {trial.reason}",
            unfrozen(chosen),
        )
    return table


def runs_table(runs: Sequence[Remembered]) -> Table:
    """A row per sweep or refinement, in the order given."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("begun", "kind", "name", "status", "took", "of it", "best score", "run"):
        table.add_column(name, justify="right" if name == "best score" else "left")
    for run in runs:
        parts = [f"{number} {how.lower()}" for how, number in sorted(run.parts.items())]
        table.add_row(
            f"{run.begun:%Y-%m-%d %H:%M}",
            run.kind,
            run.name,
            run.status.lower(),
            "" if run.seconds is None else duration(run.seconds),
            ", ".join(parts),
            _score(run.best_score),
            run.run_id[:SHORT],
        )
    return table


def comparison_table(one: Trial, other: Trial) -> Table:
    """What two trials differ in, and how they did."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for trial in (one, other):
        table.add_column(f"trial {trial.number} ({trial.run_id[:SHORT]})")
    for key, (left, right) in differences(one, other).items():
        table.add_row(key, _shown(left), _shown(right))
    for key in ("best_score", "status", "epochs", "seconds", "trained_parameters", "drift"):
        table.add_row(key, *(_shown(as_data(trial)[key]) for trial in (one, other)))
    for subject in dict.fromkeys([*one.subject_scores, *other.subject_scores]):
        scores = (trial.subject_scores.get(subject) for trial in (one, other))
        table.add_row(f"{OF_SUBJECT}{subject}", *map(_shown, scores))
    return table


def subsets_table(scores: Iterable[SubsetScore]) -> Table:
    """A row per subset, means over subjects. helped: of whom a refined epoch was kept."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("subset", "parameters", "frozen", "refined", "gain", "change", "helped"):
        table.add_column(name, justify="left" if name == "subset" else "right", no_wrap=name != "subset")
    for one in averaged(scores):
        table.add_row(
            one.name,
            f"{one.parameters:,}",
            _score(one.before),
            _score(one.after),
            f"{one.gain:+.4f}" if math.isfinite(one.gain) else "",
            f"{100 * one.change:.2g}%" if math.isfinite(one.change) else "",
            f"{one.helped} of {len(one.subjects)}",
        )
    return table


def differences(one: Trial, other: Trial) -> dict[str, tuple[Any, Any]]:
    """Options in which two trials differ, as (one's, other's); None for what one of them lacks."""
    left, right = (flat(trial.configuration.model_dump(mode="json")) for trial in (one, other))
    keys = [*left, *(key for key in right if key not in left)]
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def as_data(item: Trial | Remembered) -> dict[str, Any]:
    """A trial or run as JSON can hold it; what is not a number is null."""
    if isinstance(item, Remembered):
        data = vars(item) | {"begun": item.begun.isoformat()}
    else:
        data = vars(item) | {
            "configuration": item.configuration.model_dump(mode="json"),
            "scores": list(item.scores),
            "epochs": len(item.scores) - 1 if item.reduce is None else None,
        }
    return {key: _finite(value) for key, value in data.items()}


def trial_named(study_name: str, tracker: Tracker, name: str) -> Trial:
    """A trial of the newest sweep by its number, or any trial by the beginning of its run's id.

    Raises TrackingError if there is none, or several begin like that.
    """
    if name.isdigit() and len(name) < SHORT:
        for trial in tracker.trials(tracker.newest_sweep()):
            if trial.number == int(name):
                return trial
    found = tracker.trials_beginning(name)
    if len(found) != 1:
        raise TrackingError(
            f"{len(found) or 'no'} trials of {study_name} are called {name}",
            "give a number in the newest sweep, or more of a run's id; `wav2bold best --top 100` lists them",
        )
    return found[0]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value


def _score(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""


def _shown(value: Any) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
