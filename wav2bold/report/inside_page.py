"""The report's section about what is inside the encoder: charts, their numbers and what is said of them."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from wav2bold.pages.numbers import numbers
from wav2bold.pages.words import count
from wav2bold.report.change_map import change_map
from wav2bold.report.findings import Findings
from wav2bold.report.flow import states_read
from wav2bold.report.inside import Inside, mean_changes
from wav2bold.report.layer_pictures import (
    highest,
    layer_curves_svg,
    layer_table,
    layer_weights_svg,
    shown_regions,
    weight_table,
)


def inside_section(findings: Findings) -> dict[str, Any] | None:
    """What inside.html wants; None where nothing tells of the encoders' insides."""
    if not findings.inside:
        return None
    return {
        "subjects": len(findings.best),
        "layers": _layers(findings) if findings.layers else None,
        "weights": _weights(findings.inside),
        "read": states_read(findings.winner.configuration),
        "changes": _changes(findings.inside),
    }


def _layers(findings: Findings) -> dict[str, Any]:
    scores = findings.layers
    everywhere = {one.region for one in scores} - {None}
    shown = len(shown_regions(scores)) - 1
    return {
        "chart": _drawn(layer_curves_svg(scores)),
        "regions": count(shown, "region") if shown else "",
        "all_regions": len(everywhere),
        "highest": highest(scores),
        "numbers": numbers("layers", layer_table(scores)),
    }


def _weights(encoders: Mapping[str, Inside]) -> dict[str, Any] | None:
    """Where every subject's head sums the same number of hidden states."""
    weights = {name: one.layer_weights for name, one in encoders.items() if one.layer_weights is not None}
    if len({len(some) for some in weights.values()}) != 1:
        return None
    who = "a dot for each subject, bars their means" if len(weights) > 1 else "one subject"
    return {
        "chart": _drawn(layer_weights_svg(weights)),
        "subjects": who,
        "numbers": numbers("layer-weights", weight_table(weights)),
    }


def _changes(encoders: Mapping[str, Inside]) -> dict[str, Any]:
    means = mean_changes(encoders)
    return {
        "chart": _drawn(change_map(means)),
        "subjects": count(len(encoders), "subject"),
        "numbers": numbers("changes", means),
    }


def _drawn(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704  # made by matplotlib
