"""Whom the quality page shows: all of a few subjects, else a usual one and the few that stand out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from wav2bold.datasets.inspecting.facts import Facts, SubjectFacts

MOST_SHOWN = 4
"""Subjects whose recordings are drawn."""
MOST_MAPPED = 2
"""Subjects of many whose brains are drawn beside the mean of all."""
MOST_RUNS = 6
"""Recordings of a subject that are drawn."""
AT_ONCE = 32
"""Tables of targets in memory."""


@dataclass(frozen=True)
class Shown:
    """A subject to draw, and why this one ("" if all are drawn)."""

    name: str
    why: str


def shown_subjects(facts: Facts) -> list[Shown]:
    """Everybody if they are few; else a usual subject, then one for each way of being unlike the others.

    The usual one has the median ceiling of those like the others, or is the first of them without ceilings.
    """
    if len(facts.subjects) <= MOST_SHOWN:
        return [Shown(one.name, "") for one in facts.subjects]
    odd = {one.subject for one in facts.unlike}
    like = [one for one in facts.subjects if one.name not in odd] or list(facts.subjects)
    ranked = sorted((one for one in like if math.isfinite(one.ceiling)), key=lambda one: one.ceiling)
    usual = ranked[len(ranked) // 2] if ranked else like[0]
    kinds = [one.kind for one in facts.unlike]
    firsts = [place for place, kind in enumerate(kinds) if kind not in kinds[:place]]
    order = [*firsts, *(place for place in range(len(kinds)) if place not in firsts)]
    chosen = {usual.name: "like most others"}
    for one in (facts.unlike[place] for place in order):
        if len(chosen) < MOST_SHOWN:
            chosen.setdefault(one.subject, one.words)
    return [Shown(name, why) for name, why in chosen.items()]


def mapped_subjects(facts: Facts, shown: Sequence[Shown]) -> list[str]:
    """Whose brains are drawn: everybody if they are few; else those shown whose map may tell why they are."""
    if len(facts.subjects) <= MOST_SHOWN:
        return [one.name for one in shown]
    low = {one.subject for one in facts.unlike if one.kind in ("ceiling", "tsnr")}
    return [one.name for one in shown if one.name in low][:MOST_MAPPED]


def shown_runs(facts: Facts, subject: SubjectFacts) -> list[tuple[str, int]]:
    """Story and place of the recordings of a subject to draw: odd ones before others, in their order."""
    odd = {one.story for one in facts.unlike if one.subject == subject.name}
    runs = [(story, place) for story, counts in subject.volumes.items() for place in range(len(counts))]
    chosen = sorted(runs, key=lambda run: run[0] not in odd)[:MOST_RUNS]
    return [run for run in runs if run in chosen]


def shared_story(facts: Facts, names: Sequence[str]) -> str:
    """The story that most of these subjects heard; of such, the one recorded most often in them."""
    heard = [one.volumes for one in facts.subjects if one.name in names]
    return max(
        (story.name for story in facts.stories),
        key=lambda name: (
            sum(name in volumes for volumes in heard),
            sum(len(volumes.get(name, ())) for volumes in heard),
        ),
    )


def best_targets(table: pd.DataFrame, share: float = 0.1, least: int = 10) -> np.ndarray:
    """Places of the tenth of targets with the highest ceiling, at least 10; all if none has a ceiling."""
    ceiling = table["ceiling"].to_numpy(np.float64) if "ceiling" in table else np.full(len(table), np.nan)
    known = np.flatnonzero(np.isfinite(ceiling))
    if not len(known):
        return np.arange(len(table))
    wanted = max(least, math.ceil(share * len(known)))
    return np.sort(known[np.argsort(-ceiling[known], kind="stable")[:wanted]])


def group_mean(
    tables: Callable[[str], pa.Table], names: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    """Mean over subjects of some columns of their tables of targets, wherever a target lies in any of them.

    tables: gives a subject's table; a few are in memory at a time. Targets are matched by vertex or voxel.
    """
    total: pd.DataFrame | None = None
    for first in range(0, len(names), AT_ONCE):
        own = [tables(name) for name in names[first : first + AT_ONCE]]
        some = pa.concat_tables(own, promote_options="permissive").to_pandas()
        where = [key for key in ("hemisphere", "vertex", "i", "j", "k") if key in some]
        wanted = [*columns, *(key for key in ("x_mm", "y_mm", "z_mm") if key in some)]
        places = some.astype(dict.fromkeys(wanted, np.float64)).groupby(where)[wanted]
        sums = places.sum().join(places.count().add_suffix(" n"))
        total = sums if total is None else total.add(sums, fill_value=0.0)
    assert total is not None
    counts = total.filter(regex=" n$").rename(columns=lambda column: column[:-2])
    return (total[counts.columns] / counts.where(counts > 0)).reset_index()
