"""The report's figure of brain maps: what is drawn, on which scales, and what is said of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.evaluation.evaluated import Evaluation
from wav2bold.pages.brains import Scale, can_map, difference_scale, how_seen, no_brain, score_scale, shown_map
from wav2bold.pages.words import score, signed
from wav2bold.report.findings import Findings
from wav2bold.trainables.scores import brain_score

MOST_MAPS = 4
"""Subjects whose brains are all drawn; of more, only the first."""


@dataclass(frozen=True)
class Maps:
    """people: a name and its maps each; none if there is no brain to draw on.  glass: seen through."""

    people: tuple[dict[str, Any], ...]
    scales: tuple[dict[str, str], ...]
    glass: bool
    caption: str


NO_MAPS = Maps((), (), False, "")
"""Of what is not tested."""


def maps(findings: Findings) -> Maps:
    """Before, after and difference of every subject, or of the first if there are many."""
    space, names = findings.card.space, drawn(findings)
    tables = [findings.targets[name] for name in names]
    if not all(can_map(table, space) for table in tables):
        return Maps((), (), False, no_brain(tables[0], space))
    shown = [findings.best[name] for name in names]
    r = score_scale(*(one.frozen for one in shown), *(one.ridge for one in shown))
    change = difference_scale(*(one.ridge - one.frozen for one in shown))
    people = [
        {
            "name": one.subject,
            "maps": [
                _map(findings, one, title, values, sure, scale)
                for title, values, sure, scale in compared(one, r, change)
            ],
        }
        for one in shown
    ]
    glass = "vertex" not in findings.targets[names[0]]
    scales = (
        r.legend("\N{LESS-THAN OR EQUAL TO} 0", f"{r.high:.2f}", "r, before and after"),
        change.legend(signed(change.low), signed(change.high), "difference in r"),
    )
    who = "" if len(shown) == len(findings.best) else f" The first of {len(findings.best)} subjects is shown."
    total = sum(len(one.frozen) for one in shown)
    before, after, improved = (
        sum(int(some.sum()) for some in found)
        for found in (
            [one.predicted["frozen"] for one in shown],
            [one.predicted["ridge"] for one in shown],
            [one.improved for one in shown],
        )
    )
    others = "not drawn" if glass else "of the darkest grey"
    caption = (
        "Pearson r of each target on the test stories before (frozen) and after refinement (best "
        "configuration, fresh ridge), and their difference, each where chance does not explain it: "
        f"{before:,} of {total:,} targets predicted before, {after:,} after, {improved:,} predicted better "
        "(one-sided permutation tests over blocks of time, a false discovery rate of 5% in each subject). "
        f"The others are {others}. {how_seen(space, glass)} All maps of a kind "
        f"share one scale, cut at the 99th percentile.{who}"
    )
    return Maps(tuple(people), scales, glass, caption)


def compared(
    one: Evaluation, r: Scale, change: Scale
) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.bool_], Scale]]:
    """Title, values, where chance doesn't explain them, and scale of a subject's three maps."""
    yield "Before", one.frozen, one.predicted["frozen"], r
    yield "After", one.ridge, one.predicted["ridge"], r
    yield "Difference", one.ridge - one.frozen, one.improved, change


def map_table(findings: Findings) -> pd.DataFrame:
    """The maps' numbers: a row for each target of the subjects that are drawn, significant or not."""
    return pd.concat(
        [
            findings.targets[name][_places(findings.targets[name])].assign(
                subject=name,
                r_before=one.frozen,
                r_after=one.ridge,
                predicted_before=one.predicted["frozen"].astype(int),
                predicted_after=one.predicted["ridge"].astype(int),
                improved=one.improved.astype(int),
            )
            for name, one in ((name, findings.best[name]) for name in drawn(findings))
        ],
        ignore_index=True,
    )


def drawn(findings: Findings) -> list[str]:
    """Everyone, or the first where there are many."""
    names = list(findings.best)
    return names if len(names) <= MOST_MAPS else names[:1]


def _places(table: pd.DataFrame) -> list[str]:
    """Columns that say where a target is."""
    known = ("target", "hemisphere", "vertex", "x_mm", "y_mm", "z_mm")
    return [column for column in known if column in table]


def _map(
    findings: Findings,
    one: Evaluation,
    title: str,
    values: NDArray[np.float64],
    sure: NDArray[np.bool_],
    scale: Scale,
) -> dict[str, Any]:
    """One map, of the targets in which chance does not explain what there is."""
    masked = np.where(sure, values, np.nan)
    said = (
        f"{one.subject}, {title.lower()}: map of r on the brain, {sure.sum():,} of {len(sure):,} targets "
        "significant"
    )
    if sure.any():
        said += f", their mean {score(brain_score(masked))}, highest {score(float(np.nanmax(masked)))}"
    return shown_map(findings.targets[one.subject], masked, scale, title, said)
