"""Scores as a picture: a curve over layers for each encoder, or a matrix of encoders by subjects."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wav2bold.errors import StudyError
from wav2bold.evaluation.across_subjects import summary
from wav2bold.evaluation.evaluated import LayerScore, Scored
from wav2bold.evaluation.intervals import Interval
from wav2bold.options import write_whole
from wav2bold.pages.look import LIGHT, STYLE, WIDTH_IN, legend
from wav2bold.pages.words import score

FORMATS = (".svg", ".png", ".pdf")
COLOURS = (LIGHT["paper"], LIGHT["best"], LIGHT["muted"], "#7a3e9d", "#2e7d32", "#8a6d00")
MARKERS = "os^Dvp"
ACROSS = 3  # panels in a row
TOLD = 144  # cells whose numbers can still be read
DPI = 200


def refuse_format(path: Path) -> None:
    """Raises StudyError for a picture's file that is none of those that can be drawn."""
    if path.suffix.lower() not in FORMATS:
        raise StudyError(f"{path}: pictures are SVG, PNG or PDF", f"name it {path.stem}.svg")


def draw(scores: Sequence[Scored], path: Path) -> None:
    """Draw scores into a file, whose name tells the format.

    Where hidden states were scored one by one: brain score by layer, a line for each encoder and a panel for
    each region. Otherwise a matrix, a row for each encoder and a column for each subject or, of several
    regions, for each region.
    """
    refuse_format(path)
    with mpl.rc_context(STYLE):
        figure = _layers(scores) if any(one.layer is not None for one in scores) else _matrix(scores)
        kind, content = path.suffix.lower()[1:], io.BytesIO()
        figure.savefig(content, format=kind, dpi=DPI)
    write_whole(path, content.getvalue())


def _layers(scores: Sequence[Scored]) -> Figure:
    regions = list(dict.fromkeys(one.region for one in scores))
    columns = min(math.ceil(math.sqrt(len(regions))), ACROSS)
    rows = -(-len(regions) // columns)
    figure = Figure(figsize=(WIDTH_IN * max(columns, 1.4), 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, region in zip(panels, regions, strict=False):
        curves(panel, [one for one in scores if one.region == region])
        panel.set_title(region or ("all targets" if len(regions) > 1 else ""), fontsize=9, loc="left")
    for panel in panels[len(regions) :]:
        panel.set_axis_off()
    for panel in panels[max(len(regions) - columns, 0) :]:  # those with none below
        panel.tick_params(labelbottom=True)
    figure.supxlabel("hidden state (0: input of the first layer)", fontsize=9)
    figure.supylabel("brain score, r", fontsize=9)
    legend(panels[0])
    return figure


def curves(panel: Axes, scores: Sequence[Scored] | Sequence[LayerScore]) -> None:
    """A line for each encoder: the mean over subjects, with the interval that `between` gives."""
    panel.grid(axis="both", color=LIGHT["rule"], lw=0.5)
    for number, encoder in enumerate(_encoders(scores)):
        own = [one for one in scores if one.encoder == encoder]
        layers = sorted({one.layer for one in own if one.layer is not None})
        found = [between([one for one in own if one.layer == layer]) for layer in layers]
        middle = np.array([one.value for one in found])
        ends = np.array([[one.low, one.high] for one in found]).T
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number % len(MARKERS)]
        panel.plot(layers, middle, marker=marker, ms=4, lw=1.6, color=colour, label=_short(encoder))
        panel.fill_between(layers, ends[0], ends[1], color=colour, alpha=0.15, lw=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _matrix(scores: Sequence[Scored]) -> Figure:
    regional = any(one.region is not None for one in scores)
    rows = _encoders(scores)
    columns = list(dict.fromkeys(one.region or "all" if regional else one.subject for one in scores))
    values = np.full((len(rows), len(columns)), np.nan)
    for i, encoder in enumerate(rows):
        own = [one for one in scores if one.encoder == encoder]
        for j, column in enumerate(columns):
            cell = [one for one in own if (one.region or "all" if regional else one.subject) == column]
            values[i, j] = between(cell).value if cell else np.nan
    size = (max(2.2 + 0.62 * len(columns), WIDTH_IN), 1.3 + 0.42 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="cividis", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows])
    axes.set_xlabel("region" if regional else "scored on")
    axes.set_ylabel("encoder")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="brain score, r", shrink=0.9)
    if values.size <= TOLD:
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        for (i, j), value in np.ndenumerate(values):
            ink = LIGHT["ground"] if not value > middle else LIGHT["ink"]
            axes.text(j, i, score(value), ha="center", va="center", color=ink, fontsize=8)
    return figure


def between(scores: Sequence[Scored | LayerScore]) -> Interval:
    """The score of a single subject with its own interval, or the mean over several with Student's."""
    if len(scores) == 1:
        return scores[0].score
    return summary([one.score.value for one in scores]).mean


def _encoders(scores: Sequence[Scored] | Sequence[LayerScore]) -> list[str]:
    return list(dict.fromkeys(one.encoder for one in scores))


def _short(name: str) -> str:
    """The end of an encoder's name, as a path or at a hub: refined/sub-001."""
    return "/".join(name.rstrip("/").split("/")[-2:])
