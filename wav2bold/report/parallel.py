"""Parallel coordinates: each trial a line through all that the sweep varied, to its score."""

# Own SVG: a line that is pointed at comes forward and says which trial it is, without a script

import math
from collections.abc import Callable, Sequence
from html import escape

from wav2bold.pages.words import score
from wav2bold.report.tried import LOGARITHMIC, Value, is_number, levels, options_of_trials, scored
from wav2bold.tuning.remembered import Trial

APART, HEIGHT, TOP, BOTTOM, SIDE = 84, 300, 46, 22, 40  # pixels
MOST_TICKS = 6
NARROWEST = 13.0
"""Pixels between two ticks' labels."""
SPREAD = 5.0
"""Pixels by which lines through one value of few lie apart, so that they can be told from each other."""
WORDS = {True: "yes", False: "no", None: "\N{EN DASH}"}

Scale = tuple[Callable[[Value], float], list[tuple[float, str]]]
"""Height of a value between 0 and 1, and ticks as heights with their labels."""


def parallel_coordinates(trials: Sequence[Trial], winner: Trial) -> str:
    """A line for each trial with a score, the better the darker; empty if there is nothing to compare."""
    known = scored(trials)
    options = options_of_trials(known)
    if len(known) < 2 or not options:
        return ""
    scores: list[Value] = [trial.best_score for trial in known]
    axes = {**options, "brain score": scores}
    scales = {name: scale_of(name, values) for name, values in axes.items()}
    width = 2 * SIDE + APART * (len(axes) - 1)
    order = sorted(range(len(known)), key=lambda row: known[row].best_score)
    better = {row: rank for rank, row in enumerate(order)}
    strength = min(0.65, 6 / math.sqrt(len(known)))  # of many lines, none may hide the others
    lines = []
    for row, rank in better.items():  # the best lie on top
        heights = [
            _y(scales[name][0](values[row]), _few(values), known[row].number) for name, values in axes.items()
        ]
        points = " ".join(f"{SIDE + APART * place},{y:.1f}" for place, y in enumerate(heights))
        kind = _kind(known[row], winner)
        opacity = strength * (0.2 + 0.8 * (rank / len(known)) ** 2)
        faint = "" if kind else f' opacity="{opacity:.2f}"'
        told = f"trial {known[row].number}: r {score(known[row].best_score)}"
        lines.append(
            f'<polyline class="trial-line{kind}"{faint} points="{points}"><title>{told}</title></polyline>'
        )
    parts = [_axis(place, name, scales[name][1]) for place, name in enumerate(axes)]
    title = f"Parallel coordinates of {len(known)} trials: {', '.join(axes)}"
    return (
        f'<svg class="chart parallel" viewBox="0 0 {width} {TOP + HEIGHT + BOTTOM}" fill="var(--ink)" '
        f'style="min-width: {width}px" role="img" aria-labelledby="parallel-title">'
        f'<title id="parallel-title">{escape(title)}</title>{"".join(lines)}{"".join(parts)}</svg>'
    )


def _axis(place: int, name: str, ticks: Sequence[tuple[float, str]]) -> str:
    x = SIDE + APART * place
    first, _, rest = name.partition(" ")
    label = f'<tspan x="{x}" dy="0">{escape(first)}</tspan><tspan x="{x}" dy="13">{escape(rest)}</tspan>'
    marks, last = "", math.inf
    for height, text in sorted(ticks):  # from below; the numbers of the figure have what is left out
        y = _y(height) + 4
        if last - y >= NARROWEST:
            marks += f'<text class="parallel-tick" x="{x + 4}" y="{y:.1f}">{escape(text)}</text>'
            last = y
    return (
        f'<path class="parallel-axis" d="M{x} {TOP}V{TOP + HEIGHT}"/>'
        f'<text class="parallel-name" x="{x}" y="14">{label}</text>{marks}'
    )


def _y(height: float, few: bool = False, number: int = 0) -> float:
    """Pixels from the top. Lines of few values are put apart by the golden ratio of the trial's number."""
    aside = SPREAD * (2 * (number * 0.6180339887 % 1) - 1) if few else 0.0
    return TOP + HEIGHT * (1 - height) + aside


def _few(values: Sequence[Value]) -> bool:
    return len(set(values)) <= MOST_TICKS * 2


def _kind(trial: Trial, winner: Trial) -> str:
    return " is-best" if trial.number == winner.number else " is-paper" if trial.number == 0 else ""


def scale_of(name: str, values: Sequence[Value]) -> Scale:
    """Of numbers linear or logarithmic; of words, and of a few numbers with others among them, even steps."""
    numbers = sorted({float(value) for value in values if value is not None and is_number(value)})
    many = len(numbers) > 1 and not any(isinstance(value, bool | str) for value in values)
    if not many:
        steps = levels(values)
        places = {value: place / max(len(steps) - 1, 1) for place, value in enumerate(steps)}
        return places.__getitem__, [(place, _said(value)) for value, place in places.items()]
    curve = math.log if name in LOGARITHMIC and numbers[0] > 0 else float
    low, high = curve(numbers[0]), curve(numbers[-1])
    floor = 0.12 if None in values else 0.0  # who has none runs below all who have

    def height(value: Value) -> float:
        if value is None:
            return 0.0
        return floor + (1 - floor) * (curve(float(value)) - low) / (high - low)

    shown = numbers if len(numbers) <= MOST_TICKS else _even(numbers, curve is math.log)
    ticks = [(height(number), f"{number:.3g}") for number in shown]
    return height, [*ticks, *([(0.0, WORDS[None])] if floor else [])]


def _even(numbers: Sequence[float], logarithmic: bool) -> list[float]:
    """Both ends and three between, whole where the numbers are."""
    low, high = numbers[0], numbers[-1]
    shares = [step / 4 for step in range(5)]
    found = [low * (high / low) ** share if logarithmic else low + share * (high - low) for share in shares]
    return sorted({round(one) for one in found}) if all(one == int(one) for one in numbers) else found


def _said(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return WORDS[value]
    return value if isinstance(value, str) else f"{value:.3g}"
