"""Scores for the terminal (rich) and for machines (JSON)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from wav2bold.evaluation.beyond import Beyond
from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.scoring import Scored
from wav2bold.pages.words import MINUS, score, signed


def listing(scores: Sequence[Scored], title: str) -> Table:
    """A row per encoder, subject, and layer or region; columns of which no row says anything are left out."""
    several = len({one.encoder for one in scores}) > 1
    layers = any(one.layer is not None for one in scores)
    regions = any(one.region is not None for one in scores)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    words = ["encoder"] * several + ["subject"] + ["region"] * regions
    for name in words:
        table.add_column(name)
    for name in (*(["layer"] * layers), "brain score", "95% interval", "of ceiling", "R2", "predicted"):
        table.add_column(name, justify="right")
    for one in scores:
        table.add_row(
            *[one.encoder] * several,
            one.subject,
            *[one.region or "all"] * regions,
            *[str(one.layer)] * layers,
            score(one.score.value),
            between(one.score),
            share(one.of_ceiling),
            score(one.r2),
            f"{one.predicted:,} of {one.targets:,}",
        )
    return table


def beyond_listing(rows: Sequence[Beyond], title: str) -> Table:
    """A row per encoder and subject: the encoder beside low-level features of the sound."""
    several = len({one.encoder for one in rows}) > 1
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption="low level: log-mel energies and envelope; both: banded ridge. gain: both less low level.\n"
        "unique: R2 of both less that of low level. improved: targets better predicted by both.",
        caption_justify="left",
    )
    for name in ["encoder"] * several + ["subject"]:
        table.add_column(name)
    for name in ("low level", "encoder", "both", "gain", "95% interval", "unique", "improved"):
        table.add_column(name, justify="right")
    for one in rows:
        table.add_row(
            *[one.encoder] * several,
            one.subject,
            score(one.low_level.value),
            score(one.alone.value),
            score(one.both.value),
            signed(one.gain.value),
            between(one.gain),
            score(one.unique_r2),
            f"{one.improved:,} of {one.targets:,}",
        )
    return table


def heading(random_weights: bool, shift_bold: bool, bold_of: str | None) -> str:
    """What the table shows, and what in it is not as it was."""
    changed = (
        "random weights" if random_weights else "",
        "BOLD moved by half of each story" if shift_bold else "",
        f"BOLD of {bold_of}" if bold_of is not None else "",
    )
    return ", ".join(filter(None, ("Scores on the test stories", *changed)))


def as_json(rows: Sequence[Any]) -> str:
    """Dataclasses as a list of objects; a number that there isn't is null."""
    return json.dumps([_without_nan(asdict(one)) for one in rows], indent=2, allow_nan=False)


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
