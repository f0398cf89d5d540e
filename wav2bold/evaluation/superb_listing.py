"""SUPERB's scores for the terminal (rich), for machines (JSON) and for spreadsheets (CSV)."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from rich.console import Group
from rich.table import Table

from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.listing import score_table
from wav2bold.evaluation.utterances import utterance_interval
from wav2bold.pages.words import signed
from wav2bold.trainables.superb.protocol import Score

Scores = Mapping[str, Mapping[str, Score]]
"""By encoder, the one that others are compared with first, then by task."""


@dataclass(frozen=True)
class Row:
    """One encoder in one task. change: against the first encoder; None for itself, or where it has none."""

    task: str
    encoder: str
    score: Score
    interval: Interval
    change: Interval | None


def rows_of(scores: Scores) -> list[Row]:
    """A row for each score, by task, then metric, then in the encoders' order."""
    rows = []
    for task in dict.fromkeys(task for own in scores.values() for task in own):
        found = {encoder: by_metric(own[task]) for encoder, own in scores.items() if task in own}
        first = found.get(next(iter(scores)), {})
        for metric in next(iter(found.values())):
            for encoder, own in found.items():
                score = own[metric]
                change = _change(score, first.get(metric))
                rows.append(Row(task, encoder, score, utterance_interval(score), change))
    return rows


def by_metric(score: Score) -> dict[str, Score]:
    """A score and those that stand beside it."""
    return {one.metric: one for one in (score, *score.beside)}


def _change(score: Score, first: Score | None) -> Interval | None:
    return None if first is None or first is score else utterance_interval(score, first)


def listing(rows: list[Row]) -> Group:
    """The scores with intervals and changes, and what of the hidden states each task's featurizer takes."""
    table = score_table(
        "SUPERB, in % on the test set",
        ("task", "metric", "encoder"),
        ("score", "95% interval", "change", "95% interval", "chosen on dev"),
    )
    for row in rows:
        better = "" if row.score.higher_is_better else " (lower is better)"
        table.add_row(
            row.task,
            row.score.metric + better,
            row.encoder,
            f"{100 * row.score.value:.2f}",
            ends(row.interval),
            "" if row.change is None else signed(100 * row.change.value),
            "" if row.change is None else ends(row.change),
            row.score.chosen,
        )
    deviations = dict.fromkeys(
        f"{row.task}: {name} {said}" for row in rows for name, said in row.score.deviations.items()
    )
    table.caption = "\n".join(["change: against the first encoder, on the same utterances", *deviations])
    return Group(table, _layers(rows))


def _layers(rows: list[Row]) -> Table:
    """Shares of the hidden states in the featurizer's sum."""
    states = max((len(row.score.weights) for row in rows), default=0)
    table = score_table(
        "Weights of the hidden states, in %; below them, weights times mean length of their vectors",
        ("task", "encoder"),
        [str(layer) for layer in range(states)],
    )
    for row in one_metric(rows):
        table.add_row(row.task, row.encoder, *[f"{100 * weight:.0f}" for weight in row.score.weights])
        table.add_row("", "", *[f"{100 * share:.0f}" for share in row.score.shares], style="dim")
    return table


class _Placed(Protocol):
    @property
    def task(self) -> str: ...

    @property
    def encoder(self) -> str: ...


_P = TypeVar("_P", bound=_Placed)


def one_metric(rows: Sequence[_P]) -> list[_P]:
    """Without rows of another metric of the same heads."""
    return list({(row.task, row.encoder): row for row in reversed(rows)}.values())[::-1]


def ends(interval: Interval) -> str:
    """An interval in %."""
    if not math.isfinite(interval.low):
        return "\N{EN DASH}"
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def _objects(rows: list[Row]) -> Iterator[dict[str, Any]]:
    for row in rows:
        told = row.score.to_json()
        told.pop("utterances")
        told.pop("beside")  # each has a row of its own
        told |= {
            "encoder": row.encoder,
            "interval": _plain(row.interval),
            "change": None if row.change is None else _plain(row.change),
            "shares": row.score.shares.tolist(),
        }
        yield told


def _plain(interval: Interval) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(interval).items()}


def as_json(rows: list[Row]) -> str:
    """Everything but single utterances. Scores are shares of 1; a number that there isn't is null."""
    return json.dumps(list(_objects(rows)), indent=2, allow_nan=False)


def as_csv(rows: list[Row]) -> str:
    """A line for each encoder and task. Scores are shares of 1."""
    text = io.StringIO()
    names = (
        "task",
        "metric",
        "encoder",
        "score",
        "low",
        "high",
        "change",
        "change_low",
        "change_high",
        "chosen",
    )
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        change = row.change or Interval(math.nan, math.nan, math.nan)
        numbers = (*asdict(row.interval).values(), *asdict(change).values())
        told = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
        writer.writerow([row.task, row.score.metric, row.encoder, *told, row.score.chosen])
    return text.getvalue()
