"""The report's pictures of the search: scores trial by trial, what mattered, trade-offs."""

from collections.abc import Sequence
from itertools import accumulate

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from wav2bold.config import SecondGoal
from wav2bold.pages.look import LIGHT, STYLE, chart, legend, svg
from wav2bold.report.tried import Importance, scored
from wav2bold.tuning.best import amount_of, pareto
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.trial_words import status

GOALS: dict[SecondGoal, str] = {
    "trained_parameters": "trained parameters of the encoder",
    "drift": "change of the trained parameters",
}


def optimisation(trials: Sequence[Trial]) -> str:
    """Each trial's score by its number, and the best so far."""
    known = scored(trials)
    stopped = {trial.number for trial in known if status(trial).startswith("stopped")}
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.8)
        for label, face, some in (
            ("stopped early", LIGHT["ground"], [one for one in known if one.number in stopped]),
            ("run to its end", LIGHT["quiet"], [one for one in known if one.number not in stopped]),
        ):
            if some:
                axes.scatter(
                    [one.number for one in some],
                    [one.best_score for one in some],
                    s=_size(len(known)),
                    facecolor=face,
                    edgecolor=LIGHT["quiet"],
                    lw=0.8,
                    label=label,
                )
        best = list(accumulate((one.best_score for one in known), max))
        axes.step(
            [one.number for one in known], best, where="post", color=LIGHT["best"], lw=2, label="best so far"
        )
        failed = [one.number for one in trials if one.status == "FAILED"]
        if failed:
            floor = min(one.best_score for one in known)
            axes.scatter(failed, [floor] * len(failed), marker="x", s=22, color=LIGHT["ink"], label="failed")
        axes.set_xlabel("trial")
        axes.set_ylabel("brain score, r")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        legend(axes)
        return svg(figure, "optimisation", "Brain score of each trial by its number, and the best so far")


def importance_bars(found: Sequence[Importance]) -> str:
    """Share of the scores' variance that each option explains; empty without any."""
    if not found:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = chart(0.9 + 0.22 * len(found))
        y = range(len(found))[::-1]
        axes.barh(y, [one.value for one in found], height=0.62, color=LIGHT["paper"])
        axes.hlines(
            y, [one.low for one in found], [one.high for one in found], color=LIGHT["ink"], lw=1.4, zorder=3
        )
        axes.set_yticks(y, [one.option for one in found], color=LIGHT["ink"])
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("share of the scores' variance")
        return svg(figure, "importances", "Share of the scores' variance that each option explains")


def front(trials: Sequence[Trial], goal: SecondGoal) -> str:
    """Score against a second goal, those that no other betters in both joined; empty if nobody counted it."""
    known = [trial for trial in scored(trials) if amount_of(trial, goal) == amount_of(trial, goal)]
    if not known:
        return ""
    best = pareto(known, goal)
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.8)
        axes.scatter(
            [amount_of(one, goal) for one in known],
            [one.best_score for one in known],
            s=_size(len(known)),
            color=LIGHT["quiet"],
            label="trials",
        )
        axes.plot(
            [amount_of(one, goal) for one in best],
            [one.best_score for one in best],
            "o-",
            ms=6,
            lw=1.6,
            color=LIGHT["best"],
            label="bettered by none in both",
        )
        axes.set_xlabel(GOALS[goal])
        axes.set_ylabel("brain score, r")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        legend(axes)
        return svg(figure, "front", f"Brain score of each trial against {GOALS[goal]}")


def _size(number: int) -> float:
    """Of a mark, points squared: many are small."""
    return 22 if number <= 100 else 9
