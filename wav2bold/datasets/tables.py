"""What decides a subject's table of targets, and which of its targets are kept."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Targets
from wav2bold.datasets.jobs import Shares
from wav2bold.datasets.regions import Regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.shards import SCHEMA_VERSION, content_digest
from wav2bold.datasets.sources import OTHERS, Sources
from wav2bold.datasets.targets import narrowed, target_ids
from wav2bold.errors import DataError

COLUMNS_VERSION = 2
"""Of the columns of a table; those of an earlier version are written again."""


def table_identities(
    runs: Sequence[Run],
    digests: Mapping[str, str],
    seconds: Mapping[str, float],
    told: Sources,
    targets: Targets,
) -> dict[str, str]:
    """For each subject, the digest of all that its table is made from.

    digests: of each recording with all its varying targets, by its name.  seconds: length of each story.
    """
    identities = {}
    for subject in dict.fromkeys(run.subject for run in runs):
        own = [run for run in runs if run.subject == subject]
        parts: list[Any] = ["targets", SCHEMA_VERSION, [digests[run.name] for run in own]]
        parts.append([seconds[run.story] for run in own])
        if told.way == OTHERS:
            groups = [one for one in told.together if any(run.subject == subject for run in one.runs)]
            parts += [[one.story, one.rows, [digests[run.name] for run in one.runs]] for one in groups]
        else:
            repeated = sorted(
                story for story, times in Counter(run.story for run in own).items() if times > 1
            )
            usable = [story for story in repeated if story in told.stories]
            parts += [["repeats", usable]] if usable != repeated else []
        parts += [["min_ceiling", targets.min_ceiling]] if targets.min_ceiling is not None else []
        identities[subject] = content_digest(*parts)
    return identities


def taking_part(runs: Sequence[Run], told: Sources, subjects: Iterable[str]) -> set[str]:
    """Names of the recordings that the ceilings of these subjects are measured on."""
    asked = set(subjects)
    if told.way == OTHERS:
        groups = [one for one in told.together if any(run.subject in asked for run in one.runs)]
        return {run.name for one in groups for run in one.runs}
    return {run.name for run in runs if run.subject in asked and run.story in told.stories}


def from_others(found: Sequence[Shares], subject: str) -> NDArray[np.float32] | None:
    """One subject's ceiling per target, stories weighted by volumes; None if nobody else heard one."""
    own = [shares[subject] for shares in found if subject in shares]
    if not own:
        return None
    total = sum(volumes * share for share, volumes in own) / sum(volumes for _, volumes in own)
    return np.asarray(np.sqrt(np.maximum(total, 0.0)), np.float32)


def above(
    subject: str,
    keep: NDArray[np.bool_],
    regions: Regions | None,
    ceiling: NDArray[np.float32] | None,
    least: float,
) -> NDArray[np.bool_]:
    """Which candidates are left if only targets with a ceiling of `least` or more are kept: (candidates,).

    keep: (candidates,) those that vary.  ceiling: of their targets.
    Raises DataError if none is left.
    """
    if ceiling is None:
        raise DataError(
            f"{subject}: has no noise ceiling, since no story it heard tells one",
            "leave targets.min_ceiling out, or the subject",
        )
    enough = ceiling >= least
    if not enough.any():
        raise DataError(
            f"{subject}: no target has a noise ceiling of {least:g}; the highest is "
            f"{np.nanmax(ceiling, initial=0):.2f}",
            "lower targets.min_ceiling, or leave the subject out",
        )
    return narrowed(keep, target_ids(keep, regions)[enough], regions)
