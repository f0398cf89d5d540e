"""The report's charts over hidden states: the brain score of each, and the weights that sum them."""

import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wav2bold.evaluation.drawing import between, curves
from wav2bold.evaluation.evaluated import LayerScore
from wav2bold.pages.look import LIGHT, STYLE, WIDTH_IN, chart, legend, svg
from wav2bold.pages.words import listed, score

MOST_REGIONS = 7
"""Regions with a panel of their own, beside that of all targets: what a telephone can show."""
ACROSS = 2
STATE = "hidden state (0: input of the first layer)"


def shown_regions(scores: Sequence[LayerScore]) -> list[str | None]:
    """All targets, and the regions in which some hidden state scores highest."""
    best: dict[str, float] = {}
    for one in scores:
        if one.region is not None and math.isfinite(one.score.value):
            best[one.region] = max(one.score.value, best.get(one.region, -math.inf))
    regions: list[str | None] = [None]
    return regions + sorted(best, key=lambda name: -best[name])[:MOST_REGIONS]


def layer_curves_svg(scores: Sequence[LayerScore]) -> str:
    """Brain score by hidden state, a line for each encoder and a panel for each shown region."""
    regions = shown_regions(scores)
    columns = min(len(regions), ACROSS)
    rows = -(-len(regions) // columns)
    with mpl.rc_context(STYLE):
        size = (WIDTH_IN * (1.15 if columns > 1 else 1), 0.8 + 1.9 * rows)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for panel, region in zip(panels, regions, strict=False):
            curves(panel, [one for one in scores if one.region == region])
            panel.set_axisbelow(True)
            panel.set_title((region or "all targets") if len(regions) > 1 else "", fontsize=9, loc="left")
        for panel in panels[len(regions) :]:
            panel.set_axis_off()
        for panel in panels[max(len(regions) - columns, 0) :]:  # those with none below
            panel.tick_params(labelbottom=True)
        figure.supxlabel(STATE, fontsize=9)
        figure.supylabel("brain score, r", fontsize=9)
        legend(panels[0])
        return svg(figure, "layers", "Brain score of every hidden state. " + highest(scores))


def highest(scores: Sequence[LayerScore]) -> str:
    """Which hidden state scores highest, over all targets, mean over subjects, with each encoder."""
    said = []
    for encoder in dict.fromkeys(one.encoder for one in scores):
        own = [one for one in scores if one.encoder == encoder and one.region is None]
        means = {
            layer: between([one for one in own if one.layer == layer]).value
            for layer in sorted({one.layer for one in own})
        }
        known = {layer: value for layer, value in means.items() if math.isfinite(value)}
        if known:
            top = max(known, key=lambda layer: known[layer])
            said.append(f"hidden state {top} of the {encoder} encoder ({score(known[top])})")
    return f"Highest: {listed(said)}." if said else "None has a score."


def layer_table(scores: Sequence[LayerScore]) -> pd.DataFrame:
    """The curves' numbers: a row for each encoder, region, hidden state and subject."""
    return pd.DataFrame(
        {
            "encoder": [one.encoder for one in scores],
            "region": [one.region or "all targets" for one in scores],
            "hidden_state": [one.layer for one in scores],
            "subject": [one.subject for one in scores],
            "score": [one.score.value for one in scores],
            "low": [one.score.low for one in scores],
            "high": [one.score.high for one in scores],
        }
    ).dropna(axis=1, how="all")


def layer_weights_svg(weights: Mapping[str, NDArray[np.float64]]) -> str:
    """Weights of hidden states after training, a dot for each subject, and the equal ones before."""
    table = np.stack(list(weights.values()))
    states = np.arange(table.shape[1])
    mean = table.mean(0)
    with mpl.rc_context(STYLE):
        figure, axes = chart(2.6)
        axes.bar(states, mean, color=LIGHT["best"], alpha=0.35, label="after, mean")
        axes.plot(
            np.tile(states, len(table)), table.ravel(), "o", ms=3.5, color=LIGHT["best"], label="subjects"
        )
        axes.axhline(1 / len(states), color=LIGHT["muted"], lw=1.6, ls="--", label="before")
        axes.set_xlabel(STATE)
        axes.set_ylabel("weight")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(axes)
        top = int(mean.argmax())
        said = (
            f"Weights of the {len(states)} hidden states: {score(1 / len(states))} each before training; "
            f"after it, hidden state {top} has the most, {score(float(mean[top]))}"
        )
        return svg(figure, "weights", said)


def weight_table(weights: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Its numbers: a row for each subject and hidden state."""
    return pd.DataFrame(
        [
            {"subject": subject, "hidden_state": state, "before": 1 / len(after), "after": float(value)}
            for subject, after in weights.items()
            for state, value in enumerate(after)
        ]
    )
