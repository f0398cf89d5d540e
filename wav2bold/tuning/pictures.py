"""The report's charts."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wav2bold.pages.look import LIGHT, STYLE, chart, legend, svg
from wav2bold.tuning.tracking import Trial

BINS = 24


def epochs(trials: Sequence[Trial], winner: Trial) -> str:
    """Brain score on the validation stories by epoch, or by subject, a line for each trial."""
    over_subjects = winner.reduce is not None
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.8)
        drawn = sorted((trial for trial in trials if trial.scores), key=lambda one: _rank(one, winner))
        for trial in drawn:
            colour, label, width = _role(trial, winner)
            x = range(over_subjects, over_subjects + len(trial.scores))
            axes.plot(x, trial.scores, color=colour, lw=width, label=label, solid_capstyle="round")
            end = "o" if trial.status == "FINISHED" else "x"
            axes.plot(x[-1], trial.scores[-1], end, ms=3.5, color=colour)
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


def histories(trials: Sequence[Trial], winner: Trial) -> str:
    """Best score of each trial against how much it hears; the best of each history joined."""
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.8)
        scored = [trial for trial in trials if math.isfinite(trial.best_score) and trial.is_whole]
        top: dict[int, float] = {}
        for trial in scored:
            heard = trial.configuration.history
            top[heard] = max(trial.best_score, top.get(heard, -math.inf))
        x = sorted(top)
        axes.plot(x, [top[one] for one in x], color=LIGHT["rule"], lw=2, zorder=1)
        for trial in sorted(scored, key=lambda one: _rank(one, winner)):
            colour, label, width = _role(trial, winner)
            size = 20 if width < 2 else 52
            axes.scatter(
                trial.configuration.history, trial.best_score, s=size, color=colour, label=label, zorder=2
            )
        axes.set_xlabel("history, TRs of audio heard")
        axes.set_ylabel("best brain score, r")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(0.08)
        legend(axes)
        return svg(figure, "histories", "Best brain score of each trial against its history length")


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


def _role(trial: Trial, winner: Trial) -> tuple[str, str, float]:
    """Colour, name and width of a trial's mark."""
    if trial.number == winner.number:
        return LIGHT["best"], "best, and paper's" if trial.number == 0 else "best", 2.4
    if trial.number == 0:
        return LIGHT["paper"], "paper's", 2.4
    return LIGHT["quiet"], "other trials", 1.0


def _rank(trial: Trial, winner: Trial) -> int:
    """Order of drawing: what matters lies on top."""
    return 2 if trial.number == winner.number else int(trial.number == 0)
