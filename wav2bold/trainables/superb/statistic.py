"""What becomes of test utterances' single numbers: the statistics that SUPERB's metrics are."""

# N utterances, U units, R draws of units, P points of a curve

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float32]], NDArray[np.float64]
]
"""(R,) of parts (N,), wholes (N,), each one's unit (N,) and how often each draw takes each unit (R, U).

Of utterances that have two units, (N, 2); NaN for a draw that has no such number.
"""
DRAWS_AT_ONCE = 100
"""With VoxCeleb1's 37,720 trials 30 MB an array."""


def share(
    parts: NDArray[np.float64],
    wholes: NDArray[np.float64],
    unit: NDArray[np.int64],
    counts: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Sum of parts by sum of wholes, (R,)."""
    summed = (np.bincount(unit, one, counts.shape[1]) for one in (parts, wholes))
    parts_R, wholes_R = (counts @ one for one in summed)
    return np.asarray(parts_R / wholes_R, np.float64)


def equal_error_rate(
    parts: NDArray[np.float64],
    wholes: NDArray[np.float64],
    unit: NDArray[np.int64],
    counts: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Where as many targets are refused as others are let in, (R,), the curve interpolated between scores.

    parts: scores of trials.  wholes: 1 for a target, else 0.  unit: one each, or the two speakers, (N, 2).
    A trial of two different speakers counts by how often both are drawn, one times the other (the pigeonhole
    bootstrap, Owen 2007); a trial within one counts as that one does.
    NaN for a draw without targets, or without others.
    """
    order = np.argsort(-parts, kind="stable")
    unit_NK, target_N = unit.reshape(len(parts), -1)[order], wholes[order] > 0
    ends_P = np.flatnonzero(np.diff(parts[order], append=np.nan) != 0)  # equal scores are one point
    rates = [
        _crossing(_weights(unit_NK, some), target_N, ends_P)
        for some in np.split(counts, range(DRAWS_AT_ONCE, len(counts), DRAWS_AT_ONCE))
    ]
    return np.concatenate(rates)


def _weights(unit_NK: NDArray[np.int64], counts_RU: NDArray[np.float32]) -> NDArray[np.float64]:
    """How often each draw takes each trial, (R, N)."""
    weights_RN = counts_RU[:, unit_NK[:, 0]].astype(np.float64)
    for others in unit_NK.T[1:]:
        weights_RN *= np.where(others == unit_NK[:, 0], 1, counts_RU[:, others])
    return weights_RN


def _crossing(
    weights_RN: NDArray[np.float64], target_N: NDArray[np.bool_], ends_P: NDArray[np.int64]
) -> NDArray[np.float64]:
    """False positives' rate where it and that of true ones make 1, (R,). Trials are in order of score."""
    found = []
    for which in (~target_N, target_N):
        risen_RP = (weights_RN * which).cumsum(1)[:, ends_P]
        with np.errstate(invalid="ignore"):
            found.append(np.pad(risen_RP / risen_RP[:, -1:], ((0, 0), (1, 0))))
    false_RP, true_RP = found
    sum_RP = false_RP + true_RP
    draws, after = np.arange(len(weights_RN)), np.maximum((sum_RP >= 1).argmax(1), 1)
    low, high = sum_RP[draws, after - 1], sum_RP[draws, after]
    along = (1 - low) / (high - low)
    return np.asarray(false_RP[draws, after - 1] * (1 - along) + false_RP[draws, after] * along, np.float64)


STATISTICS: Mapping[str, Statistic] = {"share": share, "eer": equal_error_rate}
"""By name, as results on disk have it."""
