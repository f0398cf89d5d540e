"""How far refinement moved parameters, types by layers: the paper's figure 2."""

import matplotlib as mpl
import pandas as pd

from wav2bold.config import PARAMETER_TYPES, ParameterType
from wav2bold.pages.look import STYLE, chart, svg
from wav2bold.tuning.heat_map import Cell, height_in, panel, percent


def change_map(means: pd.DataFrame) -> str:
    """Relative change of each type in each layer as an element of a page. means: of `mean_changes`."""
    rows: list[tuple[ParameterType, list[Cell]]] = [
        (
            kind,
            [
                (-1 if pd.isna(layer) else int(layer), 1, float(change))
                for layer, change in zip(own["layer"], own["change"], strict=True)
            ],
        )
        for kind, own in ((kind, means[means["type"] == kind]) for kind in PARAMETER_TYPES)
        if len(own)
    ]
    layers = int(means["layer"].max()) + 1
    with mpl.rc_context(STYLE):
        figure, axes = chart(height_in(rows))
        panel(axes, rows, layers, "relative change of parameters", percent)
        return svg(figure, "changes", _said(means))


def _said(means: pd.DataFrame) -> str:
    """What is to be seen, for those who don't see it."""
    moved = means[means["change"] > 0]
    if moved.empty:
        return "Relative change of parameters by type and layer: none moved"
    row = moved.iloc[int(moved["change"].to_numpy().argmax())]
    place = "below the layers" if pd.isna(row["layer"]) else f"layer {row['layer']}"
    return (
        "Relative change of parameters by type and layer; the largest is "
        f"{percent(row['change'])}, of {str(row['type']).replace('_', ' ')}, {place}"
    )
