"""The quality page's charts, as SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wav2bold.datasets.inspecting.signals import thinned, zscored
from wav2bold.pages.look import LIGHT, STYLE, chart, legend, svg

WIDE_IN = 7.2
MOST_ROWS = 160
"""Targets in a carpet; of more, every k-th."""
MOST_COLUMNS = 800
"""Volumes in a carpet."""
CONTRAST = 2.0
"""Standard deviations that are black and white, as in nilearn's carpets."""
CARPET_PT = 470.0
"""Width of a carpet without what stands left of it."""
HARDLY_SEEN = 0.03
"""Share of the highest bar below which one can't be seen: a subject of hundreds."""
LONGEST_NAME = 16
LETTER_PT = 5.5
"""Width of a letter of 9 points, with some room."""
MOST_NAMED = 6
"""Subjects who are named below a picture of many."""


@dataclass(frozen=True)
class RunPicture:
    """One recording as a carpet shows it.

    y: (T, targets shown) z-scored.  change: (T,) how much all its targets changed from the volume before.
    """

    name: str
    y: NDArray[np.float32]
    change: NDArray[np.float64]


@dataclass(frozen=True)
class Response:
    """What one subject's BOLD did while a story was told.

    time_s: (T,) in the story.  loudness: (T,), NaN outside the story.  bold: (T,) mean over the best targets.
    """

    name: str
    time_s: NDArray[np.float64]
    loudness: NDArray[np.float64]
    bold: NDArray[np.float64]


def carpet(identifier: str, name: str, runs: Sequence[RunPicture]) -> str:
    """Recordings side by side: above, how much each volume differs from the last; below, a row per target."""
    volumes = sum(len(run.change) for run in runs)
    shares = [max(1, MOST_COLUMNS * len(run.change) // volumes) for run in runs]
    drawn = [
        thinned(run.change, share if volumes > MOST_COLUMNS else len(run.change))
        for run, share in zip(runs, shares, strict=True)
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE_IN, 2.9), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3.2))
        edges = np.cumsum([0, *map(len, drawn)])
        changes = [run.change[chosen] for run, chosen in zip(runs, drawn, strict=True)]
        for start, values in zip(edges, changes, strict=False):
            above.plot(start + np.arange(len(values)), values, color=LIGHT["best"], lw=0.9)
        above.set_ylabel("change")
        above.yaxis.set_major_locator(MaxNLocator(2))
        above.tick_params(axis="x", length=0)
        picture = np.concatenate([run.y[chosen] for run, chosen in zip(runs, drawn, strict=True)]).T
        below.imshow(picture, cmap="gray", vmin=-CONTRAST, vmax=CONTRAST, aspect="auto", interpolation="none")
        for axes in (above, below):
            for edge in edges[1:-1]:
                axes.axvline(edge - 0.5, color=LIGHT["best"], lw=1.2)
        below.set_yticks([])
        below.set_ylabel("targets")
        below.set_xlim(-0.5, edges[-1] - 0.5)
        centres = (edges[:-1] + edges[1:] - 1) / 2
        names = [f"{_short(run.name)}\n{len(run.change):,} volumes" for run in runs]
        below.set_xticks(centres, staggered(names, centres * CARPET_PT / edges[-1]))
        below.tick_params(axis="x", length=0)
        below.spines[:].set_visible(False)
        return svg(figure, identifier, f"Carpet plot of {name}: every target over {volumes} volumes")


def responses(story: str, shown: Sequence[Response], until_s: float) -> str:
    """How loud the story was and what the best targets of each subject did, over time in the story."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDE_IN, 0.75 + 1.15 * len(shown)), layout="constrained")
        rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, one in zip(rows, shown, strict=True):
            axes.grid(color=LIGHT["rule"], lw=0.5)
            inside = (one.time_s <= until_s) & np.isfinite(one.loudness)
            axes.plot(
                one.time_s[inside], zscored(one.loudness)[inside], color=LIGHT["paper"], lw=1.1, label="sound"
            )
            axes.plot(
                one.time_s[inside], zscored(one.bold)[inside], color=LIGHT["best"], lw=1.6, label="BOLD"
            )
            axes.set_ylabel(_short(one.name))
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        rows[-1].set_xlabel(f"seconds in {story}")
        legend(rows[0])
        names = ", ".join(one.name for one in shown)
        return svg(figure, "responses", f"Loudness of {story} and mean BOLD over time, {names}")


def lags(lag_s: Sequence[float], r: Mapping[str, NDArray[np.float64]]) -> str:
    """Correlation of loudness with BOLD some seconds later, a line per subject."""
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.6)
        axes.axvline(0, color=LIGHT["ink"], lw=0.8)
        colours = (LIGHT["best"], LIGHT["paper"], LIGHT["muted"], LIGHT["ink"])
        for number, (name, values) in enumerate(r.items()):
            colour = colours[number % len(colours)]
            axes.plot(lag_s, values, "o-", ms=2.5, lw=1.5, color=colour, label=_short(name))
        axes.set_xlabel("seconds by which BOLD follows the sound")
        axes.set_ylabel("r")
        legend(axes)
        return svg(figure, "lags", "Correlation of loudness and mean BOLD by the lag between them")


def spread(values: Sequence[float], label: str, name: str) -> str:
    """How something is distributed over subjects."""
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.2)
        counts, edges = np.histogram(values, min(24, max(6, len(values) // 6)))
        axes.hist(values, edges.tolist(), color=LIGHT["paper"])
        low = (counts > 0) & (counts < HARDLY_SEEN * counts.max())
        marked = ((edges[:-1] + edges[1:]) / 2)[low]
        axes.plot(marked, np.zeros(len(marked)), "|", ms=8, mew=1.5, color=LIGHT["best"], clip_on=False)
        axes.set_xlabel(label)
        axes.set_ylabel("subjects")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        return svg(figure, name, f"Histogram over subjects: {label}")


def overview(
    subjects: Sequence[str], stories: Sequence[str], heard: NDArray[np.bool_], odd: Sequence[tuple[int, int]]
) -> str:
    """Who heard what, a row per story and a column per subject.

    heard: (stories, subjects).  odd: row and column of recordings that are unlike the others.
    """
    with mpl.rc_context(STYLE):
        height = min(6.0, 0.8 + 0.15 * len(stories))
        figure = Figure(figsize=(WIDE_IN, height), layout="constrained")
        axes: Axes = figure.subplots()
        shades = np.array([(0, 0, 0, 0), mpl.colors.to_rgba(LIGHT["paper"])])
        axes.imshow(shades[heard.astype(int)], aspect="auto", interpolation="none")
        for row, column in odd:
            axes.plot(column, row, "o", ms=5, color=LIGHT["best"], mec=LIGHT["ground"], mew=1)
        if len(stories) <= 40:
            axes.set_yticks(range(len(stories)), [_short(name) for name in stories], fontsize=8)
        else:
            axes.set_ylabel("stories")
            axes.set_yticks([])
        axes.tick_params(axis="y", length=0)
        named = np.unique(np.linspace(0, len(subjects) - 1, MOST_NAMED).round().astype(int)).tolist()
        axes.set_xticks(named, [_short(subjects[place]) for place in named])
        axes.spines[:].set_visible(False)
        return svg(figure, "overview", "Which stories each subject heard")


def staggered(labels: Sequence[str], centres_pt: Sequence[float]) -> list[str]:
    """The labels, those moved down that would run into one before them.

    centres_pt: points from the left, rising.
    """
    ends: list[float] = []
    moved = []
    for label, centre in zip(labels, centres_pt, strict=True):
        half = LETTER_PT * max(map(len, label.splitlines())) / 2
        row = next((row for row, end in enumerate(ends) if end < centre - half), len(ends))
        ends[row : row + 1] = [centre + half]
        moved.append("\n" * row * (label.count("\n") + 1) + label)
    return moved


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
