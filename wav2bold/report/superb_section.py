"""The report's section on speech tasks: SUPERB's scores, and which hidden states each task reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from wav2bold.config import Configuration
from wav2bold.errors import DataError
from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.superb_listing import Scores, by_metric, ends, one_metric
from wav2bold.evaluation.utterances import utterance_interval
from wav2bold.pages.numbers import numbers
from wav2bold.pages.words import signed
from wav2bold.report.superb_pictures import states_svg
from wav2bold.trainables.origin import origin_of
from wav2bold.trainables.superb.protocol import Score

UNREFINED, REFINED, STIMULI = "unrefined", "refined", "stimuli alone"
"""What an encoder is: as it came, refined on BOLD, or the control that `refine --pretrain` makes."""


@dataclass(frozen=True)
class Spoken:
    """One encoder in one task. kind: what it is.

    since_unrefined, since_control: change against these, on the same utterances; None where it is the one
    itself, or there is none.
    """

    task: str
    encoder: str
    kind: str
    score: Score
    interval: Interval
    since_unrefined: Interval | None
    since_control: Interval | None


def spoken_rows(scores: Scores) -> list[Spoken]:
    """A row for each score, by task, then metric, then in the encoders' order.

    The encoder as it came is the first that nobody refined; the control is that of the refined encoder's
    subject, or else the first. Raises DataError for the folder of an encoder that is there no more.
    """
    kinds = {encoder: kind_of(encoder) for encoder in scores}
    unrefined = next((one for one, kind in kinds.items() if kind == UNREFINED), None)
    rows = []
    for task in dict.fromkeys(task for own in scores.values() for task in own):
        found = {encoder: by_metric(own[task]) for encoder, own in scores.items() if task in own}
        for metric in next(iter(found.values())):
            own = {encoder: of[metric] for encoder, of in found.items()}
            for encoder, score in own.items():
                kind = kinds[encoder]
                before = own.get(unrefined or "") if kind != UNREFINED else None
                control = own.get(_control(kinds, encoder) or "") if kind == REFINED else None
                changes = (
                    None if one is None else utterance_interval(score, one) for one in (before, control)
                )
                rows.append(Spoken(task, encoder, kind, score, utterance_interval(score), *changes))
    return rows


def kind_of(encoder: str) -> str:
    """What an encoder is, by what its folder tells of itself. Raises DataError if the folder is gone."""
    folder = Path(encoder)
    if folder.is_absolute() and not folder.is_dir():
        raise DataError(f"{folder}: no such folder, of which there are SUPERB scores", "put it back there")
    if origin_of(folder) is None:
        return UNREFINED
    objective = Configuration.load(folder / "config.yaml").objective
    return STIMULI if objective == "pretrain" else REFINED


def _control(kinds: Mapping[str, str], encoder: str) -> str | None:
    controls = [one for one, kind in kinds.items() if kind == STIMULI]
    subject = _subject(encoder)
    return next((one for one in controls if _subject(one) == subject), next(iter(controls), None))


def _subject(encoder: str) -> Any:
    return (origin_of(Path(encoder)) or {}).get("subject")


def superb_section(scores: Scores) -> dict[str, Any] | None:
    """What superb.html wants; None if there are no scores."""
    if not scores:
        return None
    rows = spoken_rows(scores)
    tasks = list(dict.fromkeys(row.task for row in rows))
    charts = [
        states_svg(task, _by_kind(rows, task, name), what)
        for task in tasks
        for name, what in (("weights", "weight"), ("shares", "share"))
    ]
    return {
        "rows": [_cells(row) for row in rows],
        "charts": Markup("".join(charts)),  # noqa: S704  # made by matplotlib
        "several": len({row.encoder for row in rows if row.kind == REFINED}) > 1,
        "deviations": list(
            dict.fromkeys(
                f"{row.task}: {name} {said}" for row in rows for name, said in row.score.deviations.items()
            )
        ),
        "numbers": numbers("superb", superb_numbers(rows)),
        "states": numbers("superb-layers", state_numbers(rows)),
    }


def _cells(row: Spoken) -> dict[str, Any]:
    better = "" if row.score.higher_is_better else ", lower is better"
    told = [f"{100 * row.score.value:.2f}", ends(row.interval)]
    for change in (row.since_unrefined, row.since_control):
        told += ["", ""] if change is None else [signed(100 * change.value), ends(change)]
    return {
        "task": f"{row.task} ({row.score.metric}{better})",
        "encoder": shown(row.encoder),
        "kind": row.kind,
        "cells": told,
    }


def shown(encoder: str) -> str:
    """A name short enough for a table: of a folder the last two parts."""
    folder = Path(encoder)
    return "/".join(folder.parts[-2:]) if folder.is_absolute() else encoder


def _by_kind(rows: Sequence[Spoken], task: str, name: str) -> dict[str, NDArray[np.float64]]:
    """(L,) of each kind of encoder, mean over those of as many hidden states as the first."""
    own = [row for row in one_metric(rows) if row.task == task]
    states = len(own[0].score.weights)
    alike = [row for row in own if len(row.score.weights) == states]
    return {
        kind: np.mean([getattr(row.score, name) for row in alike if row.kind == kind], axis=0)
        for kind in dict.fromkeys(row.kind for row in alike)
    }


def superb_numbers(rows: Sequence[Spoken]) -> pd.DataFrame:
    """A row for each encoder and task; scores are shares of 1."""
    return pd.DataFrame(list(_numbers(rows)))


def _numbers(rows: Sequence[Spoken]) -> Iterator[dict[str, Any]]:
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    for row in rows:
        told: dict[str, Any] = {"task": row.task, "metric": row.score.metric, "encoder": shown(row.encoder)}
        told["kind"] = row.kind
        for name, one in (
            ("score", row.interval),
            ("since_unrefined", row.since_unrefined),
            ("since_stimuli_alone", row.since_control),
        ):
            ends_of = asdict(one or nothing)
            told |= {name: ends_of["value"], f"{name}_low": ends_of["low"], f"{name}_high": ends_of["high"]}
        yield told


def state_numbers(rows: Sequence[Spoken]) -> pd.DataFrame:
    """A row for each hidden state that each task's featurizer sums, of each encoder."""
    return pd.DataFrame(
        [
            {
                "task": row.task,
                "encoder": shown(row.encoder),
                "kind": row.kind,
                "hidden_state": state,
                "weight": weight,
                "mean_length": length,
                "share": share,
            }
            for row in one_metric(rows)
            for state, (weight, length, share) in enumerate(
                zip(row.score.weights, row.score.lengths, row.score.shares, strict=True)
            )
        ]
    )
