"""The report's figures that can be turned, zoomed and pointed at: the search's, and maps of the brain."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from wav2bold.config import SecondGoal
from wav2bold.pages.brains import difference_scale, score_scale
from wav2bold.pages.explore import axis, explorable
from wav2bold.pages.turned import TurnedMap, turned
from wav2bold.report.findings import Findings
from wav2bold.report.maps import compared, drawn
from wav2bold.report.parallel import scale_of
from wav2bold.report.search_pictures import GOALS
from wav2bold.report.tried import Importance, Value, options_of_trials, scored
from wav2bold.tuning.best import amount_of, pareto
from wav2bold.tuning.goals import second_goal
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.trial_words import layers, status, unfrozen

EXPLORED = ("optimisation", "importances", "parallel", "front", "brain")
"""Figures that can be explored, where a study has them."""
SCORE = "brain score, r"
HEIGHT = 340
"""Pixels of a figure with two axes."""
Shown = dict[str, Any]
"""What `figures.html` shows of a figure to explore."""


def explored(findings: Findings, mattered: Sequence[Importance], *, mapped: bool) -> dict[str, Shown]:
    """Of EXPLORED those in which there is something to explore.

    mattered: importances of the trials.  mapped: whether there are brain maps.
    """
    known, goal = scored(findings.trials), second_goal(findings.study)
    found = {
        "optimisation": _optimisation(known),
        "importances": _importances(mattered),
        "parallel": _parallel(known),
        "front": _front(known, goal) if findings.study.search.sampler == "nsgaii" else None,
        "brain": _brain(findings) if mapped else None,
    }
    assert tuple(found) == EXPLORED
    return {name: shown for name, shown in found.items() if shown is not None}


def _optimisation(known: Sequence[Trial]) -> Shown:
    numbers = [one.number for one in known]
    best = list(accumulate((one.best_score for one in known), max))
    return explorable(
        "optimisation",
        "Point at the trials",
        f"Brain score of {len(known)} trials by their number; each tells its configuration",
        [
            _dots("trials", known, numbers, "var(--quiet)"),
            {
                "type": "scatter",
                "mode": "lines",
                "name": "best so far",
                "x": numbers,
                "y": best,
                "line": {"shape": "hv", "color": "var(--best)"},
                "hoverinfo": "skip",
            },
        ],
        {"xaxis": axis("trial"), "yaxis": axis(SCORE), "height": HEIGHT},
    )


def _importances(found: Sequence[Importance]) -> Shown | None:
    if not found:
        return None
    shown = found[::-1]  # plotly counts from below
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [one.option for one in shown],
        "x": [one.value for one in shown],
        "error_x": {
            "symmetric": False,
            "array": [one.high - one.value for one in shown],
            "arrayminus": [one.value - one.low for one in shown],
            "color": "var(--ink)",
        },
        "marker": {"color": "var(--paper)"},
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    return explorable(
        "importances",
        "Point at what mattered",
        f"Share of the scores' variance that each of {len(found)} options explains",
        [bars],
        {
            "xaxis": axis("share of the scores' variance", rangemode="tozero"),
            "yaxis": axis("", automargin=True),
            "height": 120 + 24 * len(found),
        },
    )


def _parallel(known: Sequence[Trial]) -> Shown | None:
    options = options_of_trials(known)
    if len(known) < 2 or not options:
        return None
    dimensions = []
    scores: list[Value] = [one.best_score for one in known]
    for name, values in {**options, "brain score": scores}.items():
        height, ticks = scale_of(name, values)
        dimensions.append(
            {
                "label": name,
                "values": [round(height(value), 5) for value in values],
                "range": [0, 1],
                "tickvals": [place for place, _ in ticks],
                "ticktext": [text for _, text in ticks],
            }
        )
    ink = {"color": "var(--ink)"}
    line = {
        "color": [one.best_score for one in known],
        "colorscale": [[0, "var(--quiet)"], [1, "var(--best)"]],
        "showscale": True,
        "colorbar": {"title": {"text": "r"}, "thickness": 12},
    }
    lines = {"type": "parcoords", "dimensions": dimensions, "line": line}
    return explorable(
        "parallel",
        "Choose among the lines",
        f"Parallel coordinates of {len(known)} trials; a marked stretch of an axis keeps its lines",
        [lines | {"labelfont": ink | {"size": 11}, "tickfont": ink, "rangefont": {"color": "rgba(0,0,0,0)"}}],
        {
            "height": 420,
            "width": max(110 * len(dimensions), 560),
            "margin": {"l": 50, "r": 20, "t": 60, "b": 20},
        },
    )


def _front(known: Sequence[Trial], goal: SecondGoal) -> Shown | None:
    counted = [one for one in known if math.isfinite(amount_of(one, goal))]
    if not counted:
        return None
    best = pareto(counted, goal)
    joined = _dots("bettered by none in both", best, [amount_of(one, goal) for one in best], "var(--best)")
    return explorable(
        "front",
        "Point at the trade-offs",
        f"Brain score of {len(counted)} trials against {GOALS[goal]}",
        [
            _dots("trials", counted, [amount_of(one, goal) for one in counted], "var(--quiet)"),
            joined | {"mode": "lines+markers"},
        ],
        {"xaxis": axis(GOALS[goal]), "yaxis": axis(SCORE), "height": HEIGHT},
    )


def _brain(findings: Findings) -> Shown | None:
    names = drawn(findings)
    if "vertex" not in findings.targets[names[0]]:
        return None
    shown = [findings.best[name] for name in names]
    r = score_scale(*(one.frozen for one in shown), *(one.ridge for one in shown))
    change = difference_scale(*(one.ridge - one.frozen for one in shown))
    maps = [
        TurnedMap(f"{one.subject}, {title.lower()}", findings.targets[one.subject], values, sure, scale)
        for one in shown
        for title, values, sure, scale in compared(one, r, change)
    ]
    return turned(maps, f"Brain scores on both hemispheres of {', '.join(names)}, to turn")


def _dots(name: str, some: Sequence[Trial], x: Sequence[float], colour: str) -> dict[str, Any]:
    """A mark for each trial, which tells what was tried."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": [one.best_score for one in some],
        "marker": {"color": colour, "size": 7},
        "text": [_said(one) for one in some],
        "hovertemplate": "%{text}<br>r %{y:.4f}<extra></extra>",
    }


def _said(trial: Trial) -> str:
    chosen = trial.configuration
    return (
        f"trial {trial.number}, {status(trial)}<br>history {chosen.history} TRs<br>"
        f"{unfrozen(chosen)}: {layers(chosen)}<br>encoder rate {chosen.encoder_lr:.2g}, "
        f"head penalty {chosen.head_l2:.3g}"
    )
