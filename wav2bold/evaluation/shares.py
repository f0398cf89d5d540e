"""Scores as shares: of variance, and of what a recording allows."""

import numpy as np
from numpy.typing import NDArray

from wav2bold.trainables.scores import batches

LEAST_CEILING = 0.1
"""Lowest ceiling that anything is divided by: below it, noise of 0.05 in r is half of what can be reached."""


def explained_variance(y: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """R2 per target, (V,) of two (T, V): 1 - squared error / variance, below 0 where a mean predicts better.

    NaN where y is constant.
    """
    volumes, targets = y.shape
    r2 = np.full(targets, np.nan)
    for some in batches(targets, 32 * volumes):
        measured = np.asarray(y[:, some], np.float64)
        error = np.square(measured - predicted[:, some]).sum(0)
        total = np.square(measured - measured.mean(0)).sum(0)
        constant = total <= 1e-12 * np.square(measured).sum(0)
        np.divide(error, total, out=r2[some], where=~constant)
    return 1 - r2


def of_ceiling(r: NDArray[np.float64], ceiling: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of its noise ceiling that r reaches, (V,); NaN where that is below LEAST_CEILING or unknown.

    r: (V,).  ceiling: (V,) the highest r that a recording allows. Its square is a share of variance.
    """
    known = np.where(ceiling >= LEAST_CEILING, ceiling, np.nan)
    return np.asarray(r / known)
