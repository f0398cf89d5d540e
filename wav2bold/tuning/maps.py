"""The report's figure of brain maps: what is drawn, on which scales, and what is said of it."""

import base64
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.trainables.evaluate import Evaluation
from wav2bold.trainables.scores import brain_score
from wav2bold.tuning.brains import Scale, brain_map, can_map, difference_scale, score_scale
from wav2bold.tuning.findings import Findings
from wav2bold.tuning.words import score, signed

MOST_MAPS = 4
"""Subjects whose brains are all drawn; of more, only the first."""


@dataclass(frozen=True)
class Maps:
    """people: a name and its maps each; none if there is no brain to draw on.  glass: seen through."""

    people: tuple[dict[str, Any], ...]
    scales: tuple[dict[str, str], ...]
    glass: bool
    caption: str


def maps(findings: Findings) -> Maps:
    """Before, after and difference of every subject, or of the first if there are many."""
    space, names = findings.card.space, list(findings.best)
    names = names if len(names) <= MOST_MAPS else names[:1]
    if any("members" in findings.targets[name] for name in names):
        caption = (
            "Targets are means of regions, which the data set's tables name and place but don't outline, so "
            "they are not drawn on a brain."
        )
        return Maps((), (), False, caption)
    if not all(can_map(findings.targets[name], space) for name in names):
        caption = f"There is no brain at hand on which targets of the space {space} could be drawn."
        return Maps((), (), False, caption)
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
        _legend(r, "\N{LESS-THAN OR EQUAL TO} 0", f"{r.high:.2f}", "r, before and after"),
        _legend(change, signed(change.low), signed(change.high), "difference in r"),
    )
    who = "" if len(shown) == len(findings.best) else f" The first of {len(findings.best)} subjects is shown."
    caption = (
        "Pearson r of each target on the test stories before (frozen) and after refinement (best "
        f"configuration, fresh ridge), and their difference. {_how(space, glass)} All maps of a kind share "
        f"one scale, cut at the 99th percentile.{who}"
    )
    return Maps(tuple(people), scales, glass, caption)


def _legend(scale: Scale, low: str, high: str, name: str) -> dict[str, str]:
    return {"css": scale.css(), "low": low, "high": high, "name": name}


def _how(space: str, glass: bool) -> str:
    """How the brain is seen."""
    if glass:
        return (
            "Glass brains from the left, the front and the right; along each line of sight the value "
            "furthest from 0 shows."
        )
    lacking = "" if space == "fsaverage5" else f", nor those of {space} that fsaverage5 lacks"
    return (
        "Both hemispheres of fsaverage5, inflated, from the side; grey where there is no target (gyri light, "
        f"sulci dark). Targets on the inner side are not seen{lacking}."
    )


def _map(
    findings: Findings, one: Evaluation, title: str, values: NDArray[np.float64], scale: Scale
) -> dict[str, Any]:
    png = brain_map(findings.targets[one.subject], values, scale)
    width, height = struct.unpack(">II", png[16:24])
    mean = brain_score(values)
    return {
        "title": title,
        "png": base64.b64encode(png).decode(),
        "width": width,
        "height": height,
        "alt": f"{one.subject}, {title.lower()}: map of r on the brain, mean {score(mean)}, "
        f"highest {score(float(np.nanmax(values, initial=-1)))}",
    }
