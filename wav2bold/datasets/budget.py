"""How much of a subject's recordings is used: the first minutes, and what of them is held back."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.windows import Windows, window_length
from wav2bold.errors import DataError

HELD_BACK = 0.2
"""Share of the minutes that choose the epoch."""


def minutes_of(some: Windows, tr_s: float) -> float:
    """How long the volumes last."""
    return len(some) * tr_s / 60


def first_minutes(some: Windows, tr_s: float, minutes: float) -> Windows:
    """The first volumes of the stories in their order, as a scanner would record them.

    Raises DataError if there are fewer.
    """
    rows = round(minutes * 60 / tr_s)
    if not 0 < rows <= len(some):
        who = ", ".join(dict.fromkeys(some.subject.tolist()))
        raise DataError(
            f"{who}: there are {minutes_of(some, tr_s):.3g} minutes to train on, not {minutes:g}",
            "ask for fewer with --minutes",
        )
    return _taken(some, np.arange(rows))


def held_back(some: Windows, tr_s: float, history: int) -> tuple[Windows, Windows]:
    """What to train on, and the last share of HELD_BACK to choose the epoch by; no sample is heard in both.

    history: the longest that is heard, TRs. Raises DataError if nothing is left to train on.
    """
    first = len(some) - max(round(HELD_BACK * len(some)), 1)
    begins = some.stop[first] - window_length(tr_s, history)
    before = np.arange(first)
    apart = (some.story[:first] != some.story[first]) | (some.stop[:first] <= begins)
    if not apart.any():
        raise DataError(
            f"{minutes_of(some, tr_s):.2g} minutes are too few to hold some back for choosing the epoch",
            "ask for more with --minutes",
        )
    return _taken(some, before[apart]), _taken(some, np.arange(first, len(some)))


def _taken(some: Windows, rows: NDArray[np.int64]) -> Windows:
    return replace(some, story=some.story[rows], stop=some.stop[rows], y=some.y[rows])
