"""Scores as shares: of variance, and of what a recording allows."""

import numpy as np
from numpy.typing import NDArray

LEAST_CEILING = 0.1
"""Lowest ceiling that anything is divided by: below it, noise of 0.05 in r is half of what can be reached."""


def explained_variance(y: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """R2 per target, (V,) of two (T, V): 1 - squared error / variance, below 0 where a mean predicts better.

    NaN where y is constant.
    """
    error = np.square(y - predicted, dtype=np.float64).sum(0)
    total = np.square(y - y.mean(0, dtype=np.float64)).sum(0)
    constant = total <= 1e-12 * np.square(y, dtype=np.float64).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(constant, np.nan, 1 - error / total))


def of_ceiling(r: NDArray[np.float64], ceiling: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of its noise ceiling that r reaches, (V,); NaN where that is below LEAST_CEILING or unknown.

    r: (V,).  ceiling: (V,) the highest r that a recording allows. Its square is a share of variance.
    """
    known = np.where(ceiling >= LEAST_CEILING, ceiling, np.nan)
    return np.asarray(r / known)
