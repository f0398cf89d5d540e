"""Time in which it is told wrongly who speaks, of two speakers whose names don't matter."""

# F frames, 4 states: nobody, the first, the second, both

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wav2bold.trainables.superb.kaldi import Turn

SPEAKING = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
"""Who speaks in each state."""


def _costs(mapped: NDArray[np.int64]) -> NDArray[np.int64]:
    """What a second of each told state (rows) costs in each true one: missed, false and confused speakers."""
    told, true = mapped[:, None], SPEAKING[None]
    return np.asarray(np.maximum(told.sum(2), true.sum(2)) - (told & true).sum(2))


COSTS = np.stack([_costs(SPEAKING), _costs(SPEAKING[:, ::-1])])
"""With the told speakers as they are, and the other way round."""


def times_of(turns: Sequence[Turn], frames: int, frame_s: float) -> NDArray[np.float64]:
    """Seconds of each true state within each frame, and after the last one: (F + 1, 4)."""
    ends = [second for turn in turns for second in (turn.start_s, turn.stop_s)]
    edges = np.unique([0.0, frames * frame_s, *ends])
    speaking = np.zeros((len(edges) - 1, 2), np.int64)
    for turn in turns:
        speaking[(edges[:-1] >= turn.start_s) & (edges[:-1] < turn.stop_s), turn.speaker] = 1
    state = speaking @ np.array([1, 2])
    passed = np.zeros((len(edges), 4))
    passed[1:] = np.cumsum((state[:, None] == np.arange(4)) * np.diff(edges)[:, None], axis=0)
    at = np.append(np.arange(frames + 1) * frame_s, edges[-1])
    return np.stack([np.diff(np.interp(at, edges, one)) for one in passed.T], axis=1)


def error_s(told: NDArray[np.bool_], times: NDArray[np.float64]) -> float:
    """Seconds told wrongly, with whichever naming makes them fewest. told: (F, 2) who speaks in each frame.

    After the last frame nobody is told to. No collar, and where both speak counts twice.
    """
    states = np.append(told @ np.array([1, 2]), 0)
    seconds = (states == np.arange(4)[:, None]) @ times
    return float((COSTS * seconds).sum((1, 2)).min())


def speech_s(times: NDArray[np.float64]) -> float:
    """Seconds of speech, twice where both speak."""
    return float((times.sum(0) * SPEAKING.sum(1)).sum())


def smoothed(told: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Median of so many frames about each, with silence beyond the ends."""
    ones = np.ones(width)
    return np.stack(
        [2 * np.convolve(one, ones, "full")[width // 2 :][: len(one)] > width for one in told.T], 1
    )
