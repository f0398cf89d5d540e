"""Figures that a reader can turn, zoom and point at: plotly's, within the page, drawn when they are opened.

They are written as plotly's JSON, without its Python objects, whose import takes more than the page's charts.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray


@dataclass(frozen=True)
class Option:
    """What a choice makes of a drawn figure: changes to its traces and layout, as `Plotly.update` takes."""

    name: str
    traces: Mapping[str, Any] = field(default_factory=dict)
    layout: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """A menu above a figure; its first option is chosen at first."""

    name: str
    options: tuple[Option, ...]


def explorable(
    name: str,
    invitation: str,
    said: str,
    traces: Sequence[Mapping[str, Any]],
    layout: Mapping[str, Any],
    choices: Sequence[Choice] = (),
) -> dict[str, Any]:
    """What `figures.html` shows of a figure.

    name: its id.  invitation: what opens it.  said: what it shows, for those who don't see it.
    traces, layout: plotly's JSON; a colour can be any of `look.LIGHT`, as `var(--best)`.
    """
    whole = {
        "data": list(traces),
        "layout": {**BARE, **layout},
        "choices": [{"options": [vars(option) for option in one.options]} for one in choices],
    }
    return {
        "id": f"explore-{name}",
        "invitation": invitation,
        "said": said,
        "choices": [(one.name, [option.name for option in one.options]) for one in choices],
        "packed": _packed(json.dumps(whole, separators=(",", ":"), default=_plain)),
    }


def library() -> dict[str, Markup]:
    """plotly.js, gzipped, and the script that unfolds it and the figures: once for each page."""
    from plotly.offline import get_plotlyjs  # only where a page is to have it

    script = files("wav2bold.pages").joinpath("explore.js").read_text(encoding="utf-8")
    return {"packed": _packed(get_plotlyjs()), "script": Markup(script)}  # noqa: S704  # our own


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis in the page's colours."""
    return {"title": {"text": title}, "gridcolor": "var(--rule)", "zeroline": False} | more


def array(values: NDArray[np.generic]) -> dict[str, str]:
    """Numbers as plotly.js reads them without parsing each."""
    kinds = {"float32": "f4", "int16": "i2", "int32": "i4"}
    return {"dtype": kinds[values.dtype.name], "bdata": base64.b64encode(values.tobytes()).decode()}


BARE: Mapping[str, Any] = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": "var(--ink)", "family": "system-ui, sans-serif", "size": 12},
    "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    "hoverlabel": {"bgcolor": "var(--ground)", "font": {"color": "var(--ink)"}},
    "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--muted)", "activecolor": "var(--ink)"},
}
"""What every figure's layout begins with."""


def _packed(text: str) -> Markup:
    """Gzipped without a time, so that the same figure gives the same page, in letters that need no escape."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())  # noqa: S704


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
