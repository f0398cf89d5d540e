"""The report's section on scanning time."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.ticker import NullLocator

from wav2bold.evaluation.minutes import Efficiency
from wav2bold.pages.look import LIGHT, STYLE, chart, legend, svg
from wav2bold.pages.numbers import numbers
from wav2bold.pages.words import count
from wav2bold.tuning.efficiency_words import NAMES, across, rows, saved

MOST_SHOWN = 4
"""Subjects whose curves are drawn."""
LOOKS = {
    "frozen": ("frozen", LIGHT["muted"], "o"),
    "others": ("on others", LIGHT["paper"], "s"),
    "own": ("then on own", LIGHT["best"], "^"),
}
"""Name, colour and marker of each curve: shapes tell them apart on grey paper."""


def efficiency_section(found: Sequence[Efficiency]) -> dict[str, Any] | None:
    """What efficiency.html wants; None if nobody's curves are known."""
    if not found:
        return None
    shown = found[:MOST_SHOWN]
    over_all = [said for kind in ("others", "own") if (said := across(found, kind))]
    return {
        "sentences": [*over_all, *(said for one in shown for said in saved(one))],
        "curves": Markup("".join(map(curves, shown))),  # noqa: S704  # made by matplotlib
        "hidden": len(found) > len(shown),
        "shown": len(shown),
        "subjects": count(len(found), "subject"),
        "numbers": numbers("minutes", efficiency_numbers(found)),
        "rows": [[one.subject, *row] for one in found for row in rows(one)],
    }


def efficiency_numbers(found: Sequence[Efficiency]) -> pd.DataFrame:
    """A row for each budget of each subject and encoder."""
    return pd.DataFrame(
        [
            {"subject": one.subject, "minutes": minutes, "encoder": NAMES[kind], **asdict(interval)}
            for one in found
            for kind, curve in one.curves.items()
            for minutes, interval in zip(one.minutes, curve, strict=True)
        ]
    )


def curves(found: Efficiency) -> str:
    """Brain score of one subject by minutes, a curve for each encoder with its interval."""
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.8)
        for kind, curve in found.curves.items():
            name, colour, marker = LOOKS[kind]
            middle = [one.value for one in curve]
            low, high = np.array([[one.low, one.high] for one in curve]).T
            axes.plot(found.minutes, middle, marker=marker, ms=5, lw=1.8, color=colour, label=name)
            axes.fill_between(found.minutes, low, high, color=colour, alpha=0.13, lw=0)
        axes.set_xscale("log")
        axes.set_xticks(found.minutes, [f"{each:.3g}" for each in found.minutes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(f"minutes of {found.subject}")
        axes.set_ylabel("brain score, r")
        legend(axes)
        name = "".join(letter if letter.isalnum() else "-" for letter in found.subject)
        title = f"Brain score of {found.subject} by minutes of their data: {', '.join(NAMES.values())}"
        return svg(figure, f"efficiency-{name}", title)
