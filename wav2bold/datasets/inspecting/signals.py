"""How loud a story was and what BOLD did then: the numbers behind the quality page's pictures."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wav2bold.datasets.windows import window_length, window_stop


def envelope(audio: NDArray[np.float32], time_s: NDArray[np.float64], tr_s: float) -> NDArray[np.float64]:
    """How loud the TR up to each volume was: (T,) root mean square, NaN where it is not all in the story.

    audio: (samples,) at 16 kHz.  time_s: (T,) seconds in the story.
    """
    length = window_length(tr_s, 1)
    stops = np.array([window_stop(float(time)) for time in time_s])
    inside = (stops >= length) & (stops <= len(audio))
    loudness = np.full(len(time_s), np.nan)
    loudness[inside] = [
        np.sqrt(np.mean(np.square(audio[stop - length : stop], dtype=np.float64))) for stop in stops[inside]
    ]
    return loudness


def lagged_correlation(
    leads: NDArray[np.float64], follows: NDArray[np.float64], lags: ArrayLike
) -> NDArray[np.float64]:
    """Pearson r between `leads[t]` and `follows[t + lag]` for every lag.

    leads, follows: (T,), NaN where there is nothing.  lags: whole volumes, below 0 if `follows` comes first.
    NaN where fewer than 3 pairs are finite, or one of the two is constant.
    """
    r = []
    for lag in np.asarray(lags, int):
        first, second = (
            (leads[: len(leads) - lag], follows[lag:]) if lag >= 0 else (leads[-lag:], follows[:lag])
        )
        there = np.isfinite(first) & np.isfinite(second)
        constant = there.sum() < 3 or not (np.ptp(first[there]) and np.ptp(second[there]))
        r.append(math.nan if constant else np.corrcoef(first[there], second[there])[0, 1])
    return np.array(r)


def clear_peak(r: NDArray[np.float64], volumes: int) -> int | None:
    """Place of the highest correlation; None if it is no higher than chance makes one of so many lags.

    Chance: 3 standard errors of a correlation over `volumes`, 1 / sqrt(volumes) each.
    """
    if not np.isfinite(r).any():
        return None
    peak = int(np.nanargmax(r))
    return peak if r[peak] > 3 / math.sqrt(volumes) else None


def change(y: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much all targets change from the volume before: (T,) root mean square, NaN for the first (DVARS).

    Power et al. 2012, here in units of each target's standard deviation.
    """
    changes = np.full(len(y), np.nan)
    changes[1:] = np.sqrt(np.mean(np.diff(y, axis=0) ** 2, axis=1, dtype=np.float64))
    return changes


def thinned(changes: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """At most `most` volumes to draw, in order: of each few in a row the one that changed most.

    Every k-th volume, as carpets are often thinned, would miss a head that moved once.
    """
    size = -(-len(changes) // most)
    moved = np.nan_to_num(changes, nan=-1.0)
    return np.array([at + int(np.argmax(moved[at : at + size])) for at in range(0, len(moved), size)])


def zscored(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of mean 0 and standard deviation 1 over what is finite; all 0 if it is constant."""
    spread = float(np.nanstd(values))
    return (values - np.nanmean(values)) / (spread or 1.0)
