"""Scores for the terminal (rich) and for machines (JSON)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table

from wav2bold.evaluation.evaluated import Beyond, Scored
from wav2bold.evaluation.intervals import Interval
from wav2bold.pages.words import MINUS, score, signed


def listing(scores: Sequence[Scored], title: str) -> Group:
    """A table per encoder, a row per subject and layer or region; columns that say nothing are left out."""
    layers = any(one.layer is not None for one in scores)
    regions = any(one.region is not None for one in scores)
    tables = []
    for encoder in dict.fromkeys(one.encoder for one in scores):
        table = score_table(
            f"{title}: {encoder}",
            words=["subject"] + ["region"] * regions,
            numbers=["layer"] * layers + ["score", "95% interval", "of ceiling", "R2", "predicted"],
        )
        own = [one for one in scores if one.encoder == encoder]
        people = list(dict.fromkeys(one.subject for one in own))
        for one in sorted(own, key=lambda one: people.index(one.subject)):
            table.add_row(
                one.subject,
                *[one.region or "all"] * regions,
                *[str(one.layer)] * layers,
                score(one.score.value),
                between(one.score),
                share(one.of_ceiling),
                score(one.r2),
                f"{one.predicted:,}/{one.targets:,}",
            )
        tables.append(table)
    return Group(*tables)


def beyond_listing(rows: Sequence[Beyond], title: str) -> Group:
    """A table per encoder, a row per subject: the encoder beside low-level features of the sound."""
    tables = []
    for encoder in dict.fromkeys(one.encoder for one in rows):
        table = score_table(
            f"{title}: {encoder}",
            words=["subject"],
            numbers=["low level", "encoder", "both", "gain", "95% interval", "unique", "improved"],
        )
        for one in rows:
            if one.encoder == encoder:
                table.add_row(
                    one.subject,
                    score(one.low_level.value),
                    score(one.alone.value),
                    score(one.both.value),
                    signed(one.gain.value),
                    between(one.gain),
                    score(one.unique_r2),
                    f"{one.improved:,}/{one.targets:,}",
                )
        tables.append(table)
    tables[-1].caption = (
        "low level: log-mel energies and envelope; both: banded ridge.\n"
        "gain: both less low level; unique: their R2 likewise.\n"
        "improved: targets better predicted by both."
    )
    return Group(*tables)


def heading(random_weights: bool, shift_bold: bool, bold_of: str | None) -> str:
    """What the table shows, and what in it is not as it was."""
    changed = (
        "random weights" if random_weights else "",
        "BOLD moved by half of each story" if shift_bold else "",
        f"BOLD of {bold_of}" if bold_of is not None else "",
    )
    return ", ".join(filter(None, ("Scores on the test stories", *changed)))


def score_table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table of scores: columns of words, which fold, and then of numbers, which don't."""
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def as_json(rows: Sequence[Any]) -> str:
    """Dataclasses as a list of objects, without scores of targets; a number that there isn't is null."""
    told = [replace(one, per_target=None) if isinstance(one, Scored) else one for one in rows]
    objects = [_without_nan(asdict(one)) for one in told]
    for one in objects:
        one.pop("per_target", None)
    return json.dumps(objects, indent=2, allow_nan=False)


def between(interval: Interval) -> str:
    """Both ends; an en dash where there are none."""
    if not math.isfinite(interval.low):
        return "\N{EN DASH}"
    return f"{score(interval.low)} to {score(interval.high)}"


def share(value: float) -> str:
    """A share, per cent; an en dash where there is none."""
    return f"{100 * value:.0f}%".replace("-", MINUS) if math.isfinite(value) else "\N{EN DASH}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
