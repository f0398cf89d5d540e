"""Going on with a sweep whose driver was lost: only with the same one."""

import json
import math
from collections.abc import Sequence
from typing import Any

from wav2bold.config import Study
from wav2bold.errors import TrackingError
from wav2bold.options import short_digest
from wav2bold.trainables.encoder import Encoder
from wav2bold.tuning.engine import Outcome
from wav2bold.tuning.goals import Ended
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.tracking import Tracker

IDENTITY = "wav2bold.identity"
OF_SEARCH = ("parallel", "sampler", "stopping", "grace_epochs", "reduction", "space")
"""Options of `search` that decide what is tried; the others say where and how long."""
YOUNGER = ("objective", "second_goal")
"""Likewise, but told only where they are given: sweeps that know nothing of them go on."""
ENDED = ("FINISHED", "FAILED")


def identity(study: Study, encoder: Encoder, dataset: str, subjects: Sequence[str]) -> dict[str, str]:
    """A digest of each thing that decides what a sweep finds, by the name that the study file has for it."""
    data = study.model_dump(mode="json")
    parts: dict[str, Any] = {"shards": dataset, "encoder": encoder.digest, "subjects": list(subjects)}
    parts |= {name: data[name] for name in ("seed", "split", "configuration")}
    parts |= {f"search.{name}": data["search"][name] for name in OF_SEARCH}
    parts |= {f"search.{name}": data["search"][name] for name in YOUNGER if data["search"][name] is not None}
    if study.search.objective is not None:
        parts["search.objective"] = study.search.objective.reduce  # whose scores are in `subjects`
    return {name: short_digest(part) for name, part in parts.items()}


def marked(identity: dict[str, str]) -> dict[str, str]:
    """The tag of a sweep that `refuse_other` looks at."""
    return {IDENTITY: json.dumps(identity)}


def refuse_other(tracker: Tracker, sweep: str, identity: dict[str, str]) -> None:
    """Raise TrackingError if the sweep was begun with something else than what is there now."""
    before = json.loads(tracker.tags_of(sweep).get(IDENTITY, "{}"))
    names = dict.fromkeys([*identity, *before])
    changed = [name for name in names if before.get(name) != identity.get(name)]
    if changed:
        raise TrackingError(
            f"the newest sweep was begun with other {', '.join(changed)} than there is now",
            "put that back, or begin a new sweep without --resume",
        )


def told_apart(trials: Sequence[Trial]) -> tuple[list[Trial], dict[int, str]]:
    """Trials that have ended, by number, and the runs of those that a lost driver left, by number."""
    ended = {trial.number: trial for trial in trials if trial.status in ENDED}
    left = {trial.number: trial.run_id for trial in trials if trial.number not in ended}
    return [ended[number] for number in sorted(ended)], left


def how_it_ended(trial: Trial) -> Ended:
    """How a trial of an earlier driver ended, as Optuna is told of it."""
    return Ended(
        math.nan if trial.status == "FAILED" else trial.best_score,
        trial.configuration,
        math.nan if trial.drift is None else trial.drift,
        None if trial.is_whole else len(trial.subject_scores),
    )


def outcome_of(trial: Trial) -> Outcome:
    """How a trial of an earlier driver ended."""
    return Outcome(
        trial.number,
        trial.run_id,
        trial.best_score,
        len(trial.scores) - 1,
        trial.status == "FAILED",
        trial.reason,
        trial.is_whole,
    )
