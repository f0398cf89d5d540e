"""How every page of ours looks: its colours, its charts as SVG that take their colours from it."""

import io
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import matplotlib as mpl
from jinja2 import DictLoader, Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LIGHT = {
    "ground": "#ffffff",
    "ink": "#1c2024",
    "muted": "#58616a",
    "quiet": "#848d96",
    "rule": "#d5dade",
    "link": "#0a58a6",
    "paper": "#1f6fb5",
    "best": "#b54708",
}
"""What each colour is for, and the colour by day. Charts are drawn in these and the page replaces them."""
DARK = {
    "ground": "#15181b",
    "ink": "#e7eaec",
    "muted": "#a4adb5",
    "quiet": "#7b858e",
    "rule": "#3a4047",
    "link": "#8dbcf2",
    "paper": "#6fb3f2",
    "best": "#f59e5b",
}
"""The same by night."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "text.color": LIGHT["ink"],
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "axes.unicode_minus": True,
}
WIDTH_IN = 3.6  # 260 points: a telephone shows them on 340 pixels, and text stays readable


def fill(template: str, parts: Mapping[str, str] | None = None, **values: Any) -> str:
    """A page: `template`, which extends `base.html`, with its values, in the colours of day and night.

    base.html wants title, heading, subtitle, notes and footer. figures.html has what can be imported.
    parts: more templates by name, which it can include.
    """
    ours = files("wav2bold.pages")
    shared = {name: ours.joinpath(name).read_text(encoding="utf-8") for name in ("base.html", "figures.html")}
    loader = DictLoader(shared | dict(parts or {}))
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    return environment.from_string(template).render(light=_css(LIGHT), dark=_css(DARK), **values)


def chart(height_in: float, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """An empty chart of one panel, with a faint grid."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    axes.grid(axis="both", color=LIGHT["rule"], lw=0.5)
    axes.set_axisbelow(True)
    return figure, axes


def legend(axes: Axes) -> None:
    """Each name once, above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.figure.legend(
        list(once.values()),
        list(once),
        loc="outside upper left",
        ncols=2 if len(once) == 4 else 3,
        handlelength=1.2,
        columnspacing=1.2,
    )


def svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an element of the page: no addresses, its own ids, colours by name of their use."""
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue().decode()
    width, height = (72 * inches for inches in figure.get_size_inches())
    body = re.sub(r"(?s)^.*?<svg[^>]*>|<metadata>.*?</metadata>", "", text)
    body = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for role, colour in LIGHT.items():
        body = body.replace(colour, f"var(--{role})")
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="{name}-title">'
        f'<title id="{name}-title">{escape(title)}</title>{body}'
    )


def _css(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{role}: {colour};" for role, colour in colours.items())
