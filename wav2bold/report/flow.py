"""The paper's figure 1: how sound becomes predicted BOLD in this study, as a drawing with its own numbers."""

import textwrap
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from wav2bold.config import Configuration, ParameterType
from wav2bold.pages.words import count, listed, span
from wav2bold.report.findings import Findings
from wav2bold.report.inside import Inside
from wav2bold.report.methods import READ, encoder_name
from wav2bold.tuning import trial_words
from wav2bold.tuning.subset_scores import within

WIDTH = 340
"""Of the drawing, in units of which a telephone gives one pixel each: text stays as large as it is set."""
INSET, GUTTER, LINE, TITLE, ARROW, PART = 12, 86, 15, 19, 22, 16
LETTERS = 54
"""In a line of text."""
BELOW: tuple[tuple[ParameterType, str], ...] = (
    ("conv", "convolutions"),
    ("projection", "projection"),
    ("positional", "positional"),
)
WITHIN: tuple[tuple[ParameterType, str], ...] = (
    ("attention", "attention"),
    ("feed_forward", "feed-fwd."),
    ("layer_norm", "norms"),
    ("bias", "biases"),
)


@dataclass
class Flow:
    """Boxes, cells and words at their places, from top to bottom, for flow.html.

    width, height: so far.  boxes: y and height.  arrows: y and height.  cells: x, y, width, height and
    whether it is refined.  texts: x, y, words and class.
    """

    title: str
    width: float = WIDTH
    height: float = 1
    boxes: list[tuple[float, float]] = field(default_factory=list)
    arrows: list[tuple[float, float]] = field(default_factory=list)
    cells: list[tuple[float, float, float, float, bool]] = field(default_factory=list)
    texts: list[tuple[float, float, str, str]] = field(default_factory=list)

    def arrow(self, said: str) -> None:
        """From what was drawn last to what comes next, with words beside it."""
        lines = textwrap.wrap(said, LETTERS - 6)
        height = max(ARROW, len(lines) * LINE + 8)
        self.arrows.append((self.height, height))
        for number, line in enumerate(lines):
            self.texts.append((INSET + 24, self.height + 15 + number * LINE, line, "said"))
        self.height += height

    def begin(self, title: str, *said: str) -> float:
        """A box's name and words; gives where it begins, for `end`."""
        top = self.height
        self.texts.append((INSET, top + TITLE, title, "name"))
        self.height += TITLE + 7
        for line in (part for one in said for part in textwrap.wrap(one, LETTERS)):
            self.texts.append((INSET, self.height + 9, line, "said"))
            self.height += LINE
        return top

    def end(self, top: float) -> None:
        """The box around all since `begin`."""
        self.height += 4
        self.boxes.append((top, self.height - top))


def flow(findings: Findings) -> Flow | None:
    """The drawing of the best configuration; None where nothing tells of the encoder's parts."""
    if not findings.inside:
        return None
    chosen, card = findings.winner.configuration, findings.card
    encoder = next(iter(findings.inside.values()))
    hours = [
        sum(card.stories[story].seconds * times for story, times in card.subjects[name].stories.items())
        / 3600
        for name in findings.best
    ]
    targets = span([float(card.subjects[name].targets) for name in findings.best], ",.0f")
    heard = f"{count(chosen.history, 'TR')} of sound ({chosen.history * card.tr_s:g} s) for each volume"
    refined = f"{trial_words.unfrozen(chosen)}; {trial_words.layers(chosen)}" if chosen.refines else "nothing"
    features = span([float(one.head[0]) for one in findings.inside.values()], ",.0f")
    drawn = Flow(
        f"From sound to BOLD: {count(len(hours), 'subject')}; {heard}; encoder "
        f"{encoder_name(findings.study.encoder)} of {count(encoder.layers, 'layer')}, of which is refined: "
        f"{refined}; {_head(chosen)} from {features} features to {targets} targets"
    )
    top = drawn.begin(
        "Speech",
        f"{count(len(card.stories), 'story')}, "
        f"{sum(one.seconds for one in card.stories.values()) / 60:.0f} min",
    )
    drawn.end(top)
    drawn.arrow(heard)
    top = drawn.begin(f"Encoder: {encoder_name(findings.study.encoder)}", f"Refined: {refined}")
    _parts(drawn, encoder, chosen)
    drawn.end(top)
    drawn.arrow(f"{states_read(chosen)}, {READ[chosen.pooling]}")
    top = drawn.begin("Head", f"{_head(chosen)}: {features} features to {targets} targets")
    drawn.end(top)
    drawn.arrow("compared with what was measured")
    top = drawn.begin(
        "BOLD",
        f"{count(len(hours), 'subject')}, {span(hours, '.2g')} h each, TR {card.tr_s:g} s",
        f"{targets} targets, space {card.space}",
    )
    drawn.end(top)
    return drawn


def flow_table(findings: Findings) -> pd.DataFrame:
    """The drawing's numbers: what each part has, and whether it is refined."""
    chosen = findings.winner.configuration
    rows = next(iter(findings.inside.values())).changes
    return pd.DataFrame(
        {
            "type": rows["type"],
            "layer": rows["layer"],
            "parameters": rows["parameters"],
            "refined": [
                "yes" if _refined(chosen, kind, layer) else "no"
                for kind, layer in zip(rows["type"], rows["layer"], strict=True)
            ],
        }
    )


def _parts(drawn: Flow, encoder: Inside, chosen: Configuration) -> None:
    """The encoder's parameter types, and layer by layer those that layers have; tinted what is refined."""
    there = {
        (kind, None if pd.isna(layer) else int(layer))
        for kind, layer in zip(encoder.changes["type"], encoder.changes["layer"], strict=True)
    }
    x, width = GUTTER + INSET, WIDTH - GUTTER - 2 * INSET
    for kind, name in BELOW:
        if (kind, None) in there:
            drawn.texts.append((INSET, drawn.height + PART - 5, name, "part"))
            drawn.cells.append((x, drawn.height + 2, width, PART - 4, _refined(chosen, kind, None)))
            drawn.height += PART
    column = width / len(WITHIN)
    for number, (_, name) in enumerate(WITHIN):
        drawn.texts.append((x + number * column, drawn.height + 13, name, "part"))
    drawn.height += LINE + 2
    row = 13 if encoder.layers <= 12 else 9
    named = 1 if encoder.layers <= 12 else 4
    outside = any((kind, None) in there for kind, _ in WITHIN)
    for layer in [*([None] if outside else []), *range(encoder.layers)]:
        if layer is None or layer % named == 0:
            name = "outside layers" if layer is None else f"layer {layer}"
            drawn.texts.append((INSET, drawn.height + row - 3, name, "part"))
        for number, (kind, _) in enumerate(WITHIN):
            if (kind, layer) in there:
                place = (x + number * column, drawn.height + 1, column - 3, row - 2)
                drawn.cells.append((*place, _refined(chosen, kind, layer)))
        drawn.height += row
    drawn.height += 4


def _refined(chosen: Configuration, kind: ParameterType, layer: Any) -> bool:
    """Whether stage 2 trains these parameters, themselves or by adapters: none above what the head reads."""
    number = None if layer is None or pd.isna(layer) else int(layer)
    if isinstance(chosen.layers, tuple) and number is not None and number >= chosen.layers[-1]:
        return False
    if kind in chosen.unfrozen and within(number, chosen.unfrozen[kind]):
        return True
    adapted = chosen.lora
    return (
        adapted is not None
        and kind in adapted.targets
        and number is not None
        and within(number, adapted.layers)
    )


def states_read(chosen: Configuration) -> str:
    """Which hidden states the head reads, in a few words."""
    if chosen.layers is None:
        return "the last hidden state"
    if chosen.layers == "weighted":
        return "the weighted sum of all hidden states"
    numbers = listed([str(number) for number in chosen.layers])
    return f"hidden state{'s' if len(chosen.layers) > 1 else ''} {numbers}"


def _head(chosen: Configuration) -> str:
    """What the head is, in a few words."""
    kind = {
        "linear": "linear",
        "conv_linear": f"convolution over {chosen.conv_kernel} TRs, then linear",
        "shared": "linear, shared by all subjects",
    }[chosen.head]
    return kind if chosen.head_rank is None else f"{kind}, of rank {chosen.head_rank}"
