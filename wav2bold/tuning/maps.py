"""The report's figure of brain maps: what is drawn, on which scales, and what is said of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.evaluation.evaluate import Evaluation
from wav2bold.pages.brains import Scale, can_map, difference_scale, how_seen, no_brain, score_scale, shown_map
from wav2bold.pages.words import score, signed
from wav2bold.trainables.scores import brain_score
from wav2bold.tuning.findings import Findings

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
    space, names = findings.card.space, list(findings.best)
    names = names if len(names) <= MOST_MAPS else names[:1]
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
                _map(findings, one, title, values, scale)
                for title, values, scale in (
                    ("Before", one.frozen, r),
                    ("After", one.ridge, r),
                    ("Difference", one.ridge - one.frozen, change),
                )
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
    caption = (
        "Pearson r of each target on the test stories before (frozen) and after refinement (best "
        f"configuration, fresh ridge), and their difference. {how_seen(space, glass)} All maps of a kind "
        f"share one scale, cut at the 99th percentile.{who}"
    )
    return Maps(tuple(people), scales, glass, caption)


def _map(
    findings: Findings, one: Evaluation, title: str, values: NDArray[np.float64], scale: Scale
) -> dict[str, Any]:
    said = (
        f"{one.subject}, {title.lower()}: map of r on the brain, mean {score(brain_score(values))}, "
        f"highest {score(float(np.nanmax(values, initial=-1)))}"
    )
    return shown_map(findings.targets[one.subject], values, scale, title, said)
