"""The report's figure of brain score against history: what each reached, and how its trials spread."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from wav2bold.config import IntRange
from wav2bold.evaluation.across_subjects import summary
from wav2bold.evaluation.intervals import Interval
from wav2bold.pages.look import LIGHT, STYLE, chart, legend, svg
from wav2bold.pages.numbers import numbers
from wav2bold.pages.words import listed, score, span
from wav2bold.report.tried import scored
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.trial_words import status

LEAST = 3
"""Values that an interval takes: Student's of two is thirteen times as wide as they lie apart."""
ASIDE = 0.12
"""TRs by which the two curves lie apart, so that intervals don't hide each other."""
UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class AtHistory:
    """What the trials of one history reached on the validation stories.

    history: TRs.  frozen: brain score before stage 2, mean over the `tried` trials that told it.  refined:
    the best score, mean over the `refined_trials` that refined the encoder and ran to their end; where a
    sweep refines subjects one by one, the mean over the `subjects` of the best trial.  Intervals are
    Student's over those trials or subjects; NaN of fewer than LEAST.  best: the highest score of any
    comparable trial, and the number of that trial.
    """

    history: int
    frozen: Interval
    tried: int
    refined: Interval
    refined_trials: int
    subjects: int
    best: float
    best_trial: int | None


def by_history(trials: Sequence[Trial]) -> list[AtHistory]:
    """Of each history that has any score, the shortest first."""
    heard: dict[int, list[Trial]] = defaultdict(list)
    for trial in trials:
        heard[trial.configuration.history].append(trial)
    found = [_at(history, some) for history, some in sorted(heard.items())]
    return [one for one in found if one.tried or one.best_trial is not None]


def histories(trials: Sequence[Trial], winner: Trial, space: IntRange) -> dict[str, Any] | None:
    """What histories.html wants: the chart, of what its curves are means, its numbers; None without any.

    space: histories that the sweep could try.
    """
    found = by_history(trials)
    if not found:
        return None
    one_by_one = winner.reduce is not None
    return {
        "chart": Markup(_drawn(found, scored(trials), winner)),  # noqa: S704  # made by matplotlib
        "one_by_one": one_by_one,
        "least": LEAST,
        "frozen": span([one.tried for one in found if one.tried] or [0]),
        "refined": span(one.subjects if one_by_one else one.refined_trials for one in found),
        "top": _top(found),
        "untried": _untried(found, space),
        "numbers": numbers("histories", _table(found)),
    }


def _at(history: int, some: Sequence[Trial]) -> AtHistory:
    frozen = [one.scores[0] for one in some if one.reduce is None and one.scores]
    frozen = [value for value in frozen if math.isfinite(value)]
    known = scored(some)
    best = max(known, key=lambda one: one.best_score, default=None)
    if best is not None and best.reduce is not None:
        ended, values = [], list(best.subject_scores.values())
    else:
        ended = [one for one in known if one.configuration.refines and status(one) == "finished"]
        values = [one.best_score for one in ended]
    return AtHistory(
        history,
        frozen=_mean(frozen),
        tried=len(frozen),
        refined=_mean(values),
        refined_trials=len(ended),
        subjects=len(values) if best is not None and best.reduce is not None else 0,
        best=math.nan if best is None else best.best_score,
        best_trial=None if best is None else best.number,
    )


def _mean(values: Sequence[float]) -> Interval:
    mean = summary(values).mean if values else UNKNOWN
    return mean if len(values) >= LEAST else Interval(mean.value, math.nan, math.nan)


def _drawn(found: Sequence[AtHistory], known: Sequence[Trial], winner: Trial) -> str:
    best = [one for one in found if one.best_trial is not None]
    with mpl.rc_context(STYLE):
        figure, axes = chart(3.1)
        _dots(axes, known, winner)
        for name, ends, aside, colour, face in (
            ("frozen, mean", [(one.history, one.frozen) for one in found], -ASIDE, "muted", "ground"),
            ("refined, mean", [(one.history, one.refined) for one in found], ASIDE, "ink", "ink"),
        ):
            _curve(axes, name, ends, aside, LIGHT[colour], LIGHT[face])
        axes.plot(
            [one.history for one in best],
            [one.best for one in best],
            color=LIGHT["best"],
            lw=1.2,
            ls=":",
            label="best of each",
        )
        axes.set_xlabel("history, TRs of audio heard")
        axes.set_ylabel("brain score, r")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(0.08)
        legend(axes)
        return svg(figure, "histories", f"Brain score against history length. {_top(found)}")


def _dots(axes: Axes, known: Sequence[Trial], winner: Trial) -> None:
    """A dot for each trial's best score; the paper's and the best one stand out."""
    for name, colour, size, some in (
        ("trials", "quiet", 9, [one for one in known if one.number not in (0, winner.number)]),
        ("paper's", "paper", 40, [one for one in known if one.number == 0 != winner.number]),
        ("best", "best", 40, [one for one in known if one.number == winner.number]),
    ):
        if some:
            x, y = [one.configuration.history for one in some], [one.best_score for one in some]
            axes.scatter(x, y, s=size, color=LIGHT[colour], label=name, zorder=1.5 if size < 40 else 4)


def _curve(
    axes: Axes, name: str, ends: Sequence[tuple[int, Interval]], aside: float, colour: str, face: str
) -> None:
    """A line through means, with a bar for each interval."""
    told = [(history + aside, one) for history, one in ends if math.isfinite(one.value)]
    if not told:
        return
    x: ArrayLike = [place for place, _ in told]
    below = [one.value - one.low for _, one in told]
    above = [one.high - one.value for _, one in told]
    axes.errorbar(
        x,
        [one.value for _, one in told],
        yerr=[below, above],
        fmt="o-",
        ms=4,
        lw=1.6,
        elinewidth=1.2,
        capsize=2.5,
        color=colour,
        markerfacecolor=face,
        label=name,
        zorder=3,
    )


def _top(found: Sequence[AtHistory]) -> str:
    """Which history scores highest."""
    said = []
    for name, values in (
        ("of the frozen encoder", {one.history: one.frozen.value for one in found}),
        ("of the refined ones", {one.history: one.refined.value for one in found}),
        ("of single trials", {one.history: one.best for one in found}),
    ):
        known = {history: value for history, value in values.items() if math.isfinite(value)}
        if known:
            top = max(known, key=lambda history: known[history])
            said.append(f"{name} at {top} TRs ({score(known[top])})")
    return f"Highest {listed(said)}." if said else "No history has a score."


def _untried(found: Sequence[AtHistory], space: IntRange) -> str:
    """Histories of the space that no trial has told a score of: the truth may lie there."""
    lacking = sorted(set(range(space.low, space.high + 1)) - {one.history for one in found})
    return f"Not tried: {listed([str(one) for one in lacking])} TRs." if lacking else ""


def _table(found: Sequence[AtHistory]) -> pd.DataFrame:
    """A row for each history; without columns that no history has."""
    return pd.DataFrame(
        [
            {
                "history": one.history,
                "frozen": one.frozen.value,
                "frozen_low": one.frozen.low,
                "frozen_high": one.frozen.high,
                "trials": one.tried,
                "refined": one.refined.value,
                "refined_low": one.refined.low,
                "refined_high": one.refined.high,
                "refined_trials": one.refined_trials,
                "subjects": one.subjects,
                "best": one.best,
                "best_trial": one.best_trial,
            }
            for one in found
        ]
    ).dropna(axis=1, how="all")
