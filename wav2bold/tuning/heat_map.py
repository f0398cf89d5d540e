"""Heat maps by parameter type and layer, and those of what refining each subset of parameters brought."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from wav2bold.config import BELOW_LAYERS, PARAMETER_TYPES, LayerRange, ParameterType
from wav2bold.pages.look import LIGHT, STYLE, chart, svg
from wav2bold.pages.words import signed
from wav2bold.tuning.subset_scores import SubsetScore
from wav2bold.tuning.trial_words import KINDS

Measure = Literal["gain", "change"]
TITLES: dict[Measure, str] = {"gain": "change of brain score", "change": "relative change of parameters"}
DOTS_PER_INCH = 144


def heat_map_svg(means: Sequence[SubsetScore], measure: Measure) -> str:
    """One measure of every subset that is of one type, as an element of a page; empty if none is."""
    rows = _rows(means)
    if not rows:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = chart(height_in(rows))
        _shown(axes, rows, means[0].layers, measure)
        said = f"{TITLES[measure].capitalize()} by parameter type and layer"
        return svg(figure, f"subsets-{measure}", said)


def heat_map_png(means: Sequence[SubsetScore]) -> bytes:
    """Both measures of such subsets side by side, as a picture by itself; at least one subset."""
    rows = _rows(means)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, height_in(rows)), layout="constrained", facecolor=LIGHT["ground"])
        for axes, measure in zip(figure.subplots(1, 2), TITLES, strict=True):
            _shown(axes, rows, means[0].layers, measure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
    return file.getvalue()


Cell = tuple[float, float, float]
"""First layer, how many, and the value there. What lies below the layers is at -1."""
Span = tuple[float, float, SubsetScore]
"""The same, and the subset that is there."""


def _rows(means: Sequence[SubsetScore]) -> list[tuple[ParameterType, list[Span]]]:
    """Places of the subsets that are of one type, by rows: of a type several where its ranges overlap."""
    rows: list[tuple[ParameterType, list[Span]]] = []
    for kind in PARAMETER_TYPES:
        own: list[list[Span]] = []
        for one in means:
            if set(one.unfrozen) != {kind}:
                continue
            first, count = _place(kind, one.unfrozen[kind], one.layers)
            free = (row for row in own if all(_apart(first, count, *cell[:2]) for cell in row))
            row = next(free, None)
            if row is None:
                own.append(row := [])
            row.append((first, count, one))
        rows += [(kind, row) for row in own]
    return rows


def _place(kind: ParameterType, span: LayerRange | None, layers: int) -> tuple[float, float]:
    if kind in BELOW_LAYERS:
        return -1, 1
    return (0, layers) if span is None else (span[0], span[1] - span[0] + 1)


def _apart(first: float, count: float, other: float, its: float) -> bool:
    return first + count <= other or other + its <= first


def _shown(
    axes: Axes, rows: Sequence[tuple[ParameterType, Sequence[Span]]], layers: int, measure: Measure
) -> None:
    """One measure of the subsets."""
    cells = [
        (kind, [(first, count, getattr(one, measure)) for first, count, one in row]) for kind, row in rows
    ]
    full = signed if measure == "gain" else percent
    panel(axes, cells, layers, TITLES[measure], full)


def panel(
    axes: Axes,
    rows: Sequence[tuple[ParameterType, Sequence[Cell]]],
    layers: int,
    title: str,
    full: Callable[[float], str],
) -> None:
    """A heat map: the deeper a colour, the larger; blue where it is below 0.

    full: what the largest amount, which has the full colour, is called.
    """
    most = max((abs(value) for _, row in rows for *_, value in row if math.isfinite(value)), default=0.0)
    axes.grid(visible=False)
    for y, (_, row) in enumerate(rows):
        for first, count, value in row:
            share = abs(value) / most if most > 0 and math.isfinite(value) else 0.0
            colour = LIGHT["paper" if value < 0 else "best"]
            # opacity, not another colour: the page's ground is dark at night
            axes.add_patch(Rectangle((first, y), count, 1, facecolor=colour, alpha=share, lw=0))
            axes.add_patch(Rectangle((first, y), count, 1, fill=False, edgecolor=LIGHT["rule"], lw=0.8))
    below = any(first < 0 for _, row in rows for first, *_ in row)
    step = 1 if layers <= 8 else 2 if layers <= 12 else 4
    ticks = [*([-1] if below else []), *range(0, layers, step)]
    axes.set_xticks(
        [tick + 0.5 for tick in ticks], ["\N{EN DASH}" if tick < 0 else str(tick) for tick in ticks]
    )
    axes.set_yticks([y + 0.5 for y in range(len(rows))], [KINDS[kind] for kind, _ in rows])
    axes.set_xlim(-1 if below else 0, layers)
    axes.set_ylim(max(len(rows), 1), 0)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("transformer layer" + (" (\N{EN DASH}: below them)" if below else ""))
    axes.set_title(f"{title}; full colour: {full(most)}", fontsize=9, loc="right")


def percent(share: float) -> str:
    """A share in percent, to two digits: never 1.3e+02."""
    return f"{100 * share:.{2 if share < 0.995 else 3}g}%" if share < 9.995 else f"{100 * share:,.0f}%"


def height_in(rows: Sequence[object]) -> float:
    """Of a chart with one heat map of so many rows."""
    return 0.9 + 0.26 * max(len(rows), 1)
