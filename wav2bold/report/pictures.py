"""The report's charts."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wav2bold.pages.look import LIGHT, STYLE, chart, legend, svg
from wav2bold.tuning.remembered import Trial

BINS = 24
MANY = 60
MARKS = {"o": ("FINISHED",), "x": ("FAILED", "KILLED")}
"""What ends a trial's line; that of one that still runs is open."""


class _Role(NamedTuple):
    """Colour, name and width of the marks of some trials."""

    colour: str
    name: str
    width: float


def epochs(trials: Sequence[Trial], winner: Trial) -> str:
    """Brain score on the validation stories by epoch, or by subject, a line for each trial."""
    over_subjects = winner.reduce is not None
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.8)
        told = [trial for trial in trials if trial.scores]
        for role, some in _by_role(told, winner).items():
            lines = [np.column_stack([_steps(one), one.scores]) for one in some]
            axes.add_collection(
                LineCollection(
                    lines, colors=role.colour, lw=role.width, label=role.name, alpha=_faint(len(some))
                )
            )
            for mark, ends in MARKS.items():
                last = [line[-1] for line, one in zip(lines, some, strict=True) if one.status in ends]
                if last:
                    axes.plot(*np.transpose(last), mark, ms=3.5, color=role.colour)
        axes.autoscale()
        axes.set_xlabel("subjects refined" if over_subjects else "epoch (0: encoder still frozen)")
        axes.set_ylabel("brain score, r")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        legend(axes)
        return svg(
            figure,
            "epochs",
            "Brain score on the validation stories by "
            f"{'subject' if over_subjects else 'epoch'}, one line for each trial",
        )


def subjects(
    names: Sequence[str], frozen: Sequence[float], refined: Sequence[float], top: Sequence[float]
) -> str:
    """Each subject's brain score from frozen to refined, and its noise ceiling (NaN: none)."""
    with mpl.rc_context(STYLE):
        figure, axes = chart(1.05 + 0.24 * len(names))
        y = np.arange(len(names))[::-1]
        axes.hlines(y, frozen, refined, color=LIGHT["quiet"], lw=2, zorder=1)
        axes.scatter(
            frozen,
            y,
            s=38,
            facecolor=LIGHT["ground"],
            edgecolor=LIGHT["muted"],
            lw=1.5,
            zorder=2,
            label="frozen",
        )
        axes.scatter(refined, y, s=42, color=LIGHT["best"], zorder=3, label="refined")
        if np.isfinite(top).any():
            axes.scatter(top, y, s=110, marker="|", color=LIGHT["ink"], lw=1.8, label="noise ceiling")
        axes.set_yticks(y, names, color=LIGHT["ink"])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("brain score, mean r over targets")
        axes.margins(x=0.06)
        legend(axes)
        return svg(
            figure, "subjects", "Brain score of each subject, frozen and refined, with its noise ceiling"
        )


def distributions(before: NDArray[np.float64], after: NDArray[np.float64]) -> str:
    """How r is distributed over targets, before and after: (V,) each, finite."""
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.6)
        edges = np.histogram_bin_edges(np.concatenate([before, after]), BINS).tolist()
        for values, colour, label in ((before, LIGHT["muted"], "frozen"), (after, LIGHT["best"], "refined")):
            axes.hist(values, edges, histtype="step", color=colour, lw=1.8, label=label)
        axes.set_xlabel("r")
        axes.set_ylabel("targets")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        legend(axes)
        return svg(figure, "distributions", "Histograms of r over targets, frozen and refined")


def differences(change: NDArray[np.float64]) -> str:
    """How the change in r is distributed over targets: (V,), finite."""
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.6)
        axes.hist(change, BINS, color=LIGHT["best"])
        axes.axvline(0, color=LIGHT["ink"], lw=1.2, label="no change")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("r refined \N{MINUS SIGN} r frozen")
        axes.set_ylabel("targets")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        legend(axes)
        return svg(figure, "differences", "Histogram over targets of the change in r")


def _by_role(trials: Sequence[Trial], winner: Trial) -> dict[_Role, list[Trial]]:
    """Trials by what they are drawn as; what matters comes last, and so lies on top."""
    best = _Role(LIGHT["best"], "best, and paper's" if winner.number == 0 else "best", 2.4)
    paper, others = _Role(LIGHT["paper"], "paper's", 2.4), _Role(LIGHT["quiet"], "other trials", 1.0)
    found: dict[_Role, list[Trial]] = {others: [], paper: [], best: []}
    for trial in trials:
        found[best if trial.number == winner.number else others if trial.number else paper].append(trial)
    return {role: some for role, some in found.items() if some}


def _steps(trial: Trial) -> range:
    """Of each score: epochs from 0, or subjects from 1."""
    first = int(trial.reduce is not None)
    return range(first, first + len(trial.scores))


def _faint(lines: int) -> float:
    """How much of what lies below a line is hidden: of many lines, little."""
    return 1.0 if lines <= MANY else 0.35
