"""Noise of BOLD in time: an autoregressive model of it, and what makes it white.

Noise of neighbouring volumes is alike, so least squares on them count the same evidence twice. Generalised
least squares weigh it rightly: multiply targets and predictions by A, for which A R A' = I, where R is the
noise's correlation in time, and their errors are white (Aitken 1936).
"""

# B rows of windows, V targets

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_toeplitz, solve_triangular

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.windows import Windows

ORDER = 8
"""Of the autoregressive model: 12 s at a TR of 1.5 s."""
SHRINK = 0.98
"""Of correlations at lags above 0: keeps the model stable where noise hardly changes between volumes."""
SAME_CLOCK_TR = 0.05
"""Volumes whose distance is a whole number of TRs, within this, are of one recording."""


@dataclass(frozen=True)
class NoiseModel:
    """Stationary noise of unit variance.

    correlation: (p + 1,) at lags of 0 to p volumes.  coefficients: (p,) of the autoregression that gives
    those at longer lags. Both trivial for white noise.
    """

    correlation: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    @cached_property
    def is_white(self) -> bool:
        """Whether volumes don't depend on each other."""
        return not np.any(self.correlation[1:])

    def at(self, lags: int) -> NDArray[np.float64]:
        """(lags,) correlation at lags from 0 on."""
        known = list(self.correlation[:lags])
        while len(known) < lags:
            recent = known[: -len(self.coefficients) - 1 : -1]
            known.append(float(self.coefficients[: len(recent)] @ recent))
        return np.array(known)


WHITE = NoiseModel(np.ones(1), np.zeros(0))


@dataclass(frozen=True)
class Group:
    """Targets that were measured at the same rows.

    columns: (Vg,) of `Windows.y`.  rows: (Ng,) of it.  recordings: for each recording its rows, in time.
    """

    columns: NDArray[np.int64]
    rows: NDArray[np.int64]
    recordings: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True)
class Clock:
    """When rows of windows were measured. story: (N,).  time_tr: (N,) TRs from the beginning of the story."""

    story: NDArray[np.str_]
    time_tr: NDArray[np.float64]

    @classmethod
    def of(cls, windows: Windows, tr_s: float) -> "Clock":
        """The clock of some windows."""
        return cls(windows.story, windows.stop / (tr_s * SAMPLE_RATE_HZ))


def groups_of(y: NDArray[np.floating], story: NDArray[np.str_]) -> tuple[Group, ...]:
    """The targets of (N, V), NaN where not measured, by the rows at which they were."""
    patterns, number = np.unique(np.isfinite(y), axis=1, return_inverse=True)
    groups = []
    for pattern in range(patterns.shape[1]):
        rows = np.flatnonzero(patterns[:, pattern])
        told = tuple(rows[story[rows] == one] for one in dict.fromkeys(story[rows]))
        groups.append(Group(np.flatnonzero(number.ravel() == pattern), rows, told))
    return tuple(groups)


def whitener(noise: NoiseModel, time_tr: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, B) A such that A R A' = I, for one recording's volumes at these times; lower triangular."""
    away = np.abs(time_tr[:, None] - time_tr[None, :])
    lag = np.rint(away).astype(int)
    known = noise.at(int(lag.max(initial=0)) + 1)
    together = np.abs(away - lag) < SAME_CLOCK_TR
    factor = cholesky(np.where(together, known[lag], 0.0), lower=True)
    return np.asarray(solve_triangular(factor, np.eye(len(time_tr)), lower=True))


def whitened(
    noise: NoiseModel, clock: Clock, recordings: Sequence[NDArray[np.int64]], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A times the values, recording by recording.

    recordings: rows of each.  values: (rows of all of them, K), one recording after the other.
    """
    if noise.is_white:
        return values
    pieces, first = [], 0
    for rows in recordings:
        pieces.append(whitener(noise, clock.time_tr[rows]) @ values[first : first + len(rows)])
        first += len(rows)
    return np.concatenate(pieces)


def fit_noise(
    residuals: NDArray[np.floating], clock: Clock, order: int = ORDER, shrink: float = SHRINK
) -> NoiseModel:
    """The noise in what a ridge didn't predict, pooled over recordings and targets.

    residuals: (N, V) cross-validated, NaN where nothing was measured. Autocorrelation of each target, divided
    by the number of volumes at every lag, so that it is positive definite; Yule-Walker.
    """
    products = np.zeros(order + 1)
    for group in groups_of(residuals, clock.story):
        spread = residuals[np.ix_(group.rows, group.columns)].std(axis=0) if len(group.rows) else np.zeros(0)
        if not spread.any():
            continue
        varies = spread > 0
        for rows in group.recordings:
            values = residuals[np.ix_(rows, group.columns[varies])] / spread[varies]
            products += _lagged(values, clock.time_tr[rows], order)
    if not products[0] > 0:
        return WHITE
    correlation = products / products[0]
    correlation[1:] *= shrink
    coefficients = solve_toeplitz(correlation[:-1], correlation[1:])
    return NoiseModel(correlation, np.asarray(coefficients))


def _lagged(values_TV: NDArray[np.floating], time_tr: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """(order + 1,) sums of products of values that many volumes apart; gaps count nothing."""
    place = np.rint(time_tr - time_tr.min()).astype(int)
    grid = np.zeros((place.max(initial=0) + 1, values_TV.shape[1]))
    np.add.at(grid, place, values_TV)
    lags = min(order, len(grid) - 1)
    sums = np.zeros(order + 1)
    sums[: lags + 1] = [np.vdot(grid[lag:], grid[: len(grid) - lag]) for lag in range(lags + 1)]
    return sums
