"""The report's charts over hidden states: the brain score of each, and the weights that sum them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wav2bold.evaluation.drawing import between, curves
from wav2bold.evaluation.evaluated import LayerScore
from wav2bold.evaluation.intervals import Interval
from wav2bold.pages.look import LIGHT, STYLE, WIDTH_IN, chart, legend, svg
from wav2bold.pages.words import listed, score

MOST_REGIONS = 7
"""Regions with a panel of their own, beside that of all targets: what a telephone can show."""
ACROSS = 2
MEAN = "mean"
"""In place of a subject, in tables."""
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
    """Which hidden state of each encoder scores highest, over all targets and subjects, and how surely."""
    said = []
    for encoder in dict.fromkeys(one.encoder for one in scores):
        own = [one for one in scores if one.encoder == encoder and one.region is None]
        means = _means(own)
        known = {layer: mean for layer, mean in means.items() if math.isfinite(mean.value)}
        if known:
            top = max(known, key=lambda layer: known[layer].value)
            mean, people = known[top], list(dict.fromkeys(one.subject for one in own))
            sure = (
                f", 95% interval {score(mean.low)} to {score(mean.high)}" if math.isfinite(mean.low) else ""
            )
            agree = sum(_highest_of([one for one in own if one.subject == name]) == top for name in people)
            also = f"; the highest in {agree} of {len(people)} subjects" if len(people) > 1 else ""
            said.append(f"hidden state {top} of the {encoder} encoder ({score(mean.value)}{sure}{also})")
    return f"Highest: {listed(said)}." if said else "None has a score."


def _highest_of(scores: Sequence[LayerScore]) -> int | None:
    """One subject's highest hidden state; None without any score."""
    known = [one for one in scores if math.isfinite(one.score.value)]
    return max(known, key=lambda one: one.score.value).layer if known else None


def _means(scores: Sequence[LayerScore]) -> dict[int, Interval]:
    """By hidden state, of one encoder and region: what the curve goes through, and its band."""
    return {
        layer: between([one for one in scores if one.layer == layer])
        for layer in sorted({one.layer for one in scores})
    }


def layer_table(scores: Sequence[LayerScore]) -> pd.DataFrame:
    """The curves' numbers: a row for each encoder, region, hidden state and subject, then for their mean."""
    rows = [(one.encoder, one.region, one.layer, one.subject, one.score) for one in scores]
    if len({one.subject for one in scores}) > 1:
        groups: dict[tuple[str, str | None], list[LayerScore]] = defaultdict(list)
        for one in scores:
            groups[one.encoder, one.region].append(one)
        rows += [
            (encoder, region, layer, MEAN, mean)
            for (encoder, region), some in groups.items()
            for layer, mean in _means(some).items()
        ]
    return pd.DataFrame(
        [
            {
                "encoder": encoder,
                "region": region or "all targets",
                "hidden_state": layer,
                "subject": subject,
                "score": one.value,
                "low": one.low,
                "high": one.high,
            }
            for encoder, region, layer, subject, one in rows
        ]
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
    """Its numbers: a row for each subject and hidden state, and for the mean of several."""
    rows = dict(weights)
    if len(weights) > 1:
        rows[MEAN] = np.mean(list(weights.values()), axis=0)
    return pd.DataFrame(
        [
            {"subject": subject, "hidden_state": state, "before": 1 / len(after), "after": float(value)}
            for subject, after in rows.items()
            for state, value in enumerate(after)
        ]
    )
