"""How good a prediction is, and whether one is better than another, with time respected."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MAX_BYTES = 64 << 20
"""Of what is made of a batch of targets."""


def batches(targets: int, target_bytes: int) -> Iterator[slice]:
    """Targets in turn, as many at a time as MAX_BYTES holds. target_bytes: what is made of one."""
    most = max(MAX_BYTES // max(target_bytes, 1), 1)
    for first in range(0, targets, most):
        yield slice(first, min(first + most, targets))


def pearson(y: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pearson r per target: (V,) from two (T, V) arrays.

    NaN where either is constant: a constant target has no correlation. Rows in which the measured
    value is NaN are left out, target by target.
    """
    volumes, targets = y.shape
    r = np.full(targets, np.nan)
    for some in batches(targets, 64 * volumes):
        r[some] = _mean(_products(y[:, some], predicted[:, some]), axis=0)
    return r


def brain_score(scores: NDArray[np.float64]) -> float:
    """Mean r over the targets that have one; NaN if none has."""
    finite = scores[np.isfinite(scores)]
    return float(finite.mean()) if len(finite) else float("nan")


@dataclass(frozen=True)
class Report:
    """One epoch. Epoch 0 is stage 1: the frozen encoder with the exact ridge head.

    loss: mean of the epoch's steps (NaN in epoch 0).  score: mean r over targets on the validation
    stories.  scores: (V,) r per target.  white_score: the same mean where noise was made white.
    seconds: since the refinement began, without those that a kill cost.  last: whether no epoch follows.
    note: what went wrong or is to be known, or "".
    drift: in the last report, relative change of all that was trained, in the epoch that is kept; else NaN.
    """

    epoch: int
    loss: float
    score: float
    scores: NDArray[np.float64]
    white_score: float
    seconds: float
    last: bool
    note: str = ""
    drift: float = float("nan")


@dataclass(frozen=True)
class Gain:
    """A difference in brain score and how sure it is.

    gain: mean over targets of r(after) - r(before).  p: one-sided, from a paired test over blocks
    of time.  blocks: how many there were.
    """

    gain: float
    p: float
    blocks: int


def paired_gain(
    y: NDArray[np.floating],
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    block: int,
) -> Gain:
    """Whether `after` predicts `y` better than `before`: a paired test over blocks of volumes.

    y, before, after: (T, V).  block: volumes in a block, long enough that blocks are nearly
    independent. Targets are not independent, so they are averaged first: r is the mean over time of
    z(y) z(predicted), every block has its share of the difference, and the shares' signs are
    exchangeable if nothing changed. One-sided sign-flip test, exact up to 2^16 assignments, else
    65,536 random ones (Winkler et al. 2014). Gain and p are NaN where no target has a correlation.
    """
    volumes, targets = y.shape
    total, count = np.zeros((2, volumes))
    for some in batches(targets, 128 * volumes):
        change = _products(y[:, some], after[:, some]) - _products(y[:, some], before[:, some])
        there = np.isfinite(change)
        total += np.where(there, change, 0).sum(axis=1)
        count += there.sum(axis=1)
    share = total[count > 0] / count[count > 0]
    if not len(share):
        return Gain(float("nan"), float("nan"), 0)
    blocks = [part.sum() / len(share) for part in np.array_split(share, max(len(share) // block, 2))]
    result = stats.permutation_test(
        (np.array(blocks),),
        np.sum,
        permutation_type="samples",
        alternative="greater",
        n_resamples=65_536,
        rng=np.random.default_rng(0),
    )
    return Gain(float(np.sum(blocks)), float(result.pvalue), len(blocks))


def _products(y: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """z(y) * z(predicted), (T, V); their mean over time is r. NaN where y is NaN or one is constant."""
    measured = np.asarray(y, np.float64)
    heard = np.isfinite(measured)
    shown = np.where(heard, np.asarray(predicted, np.float64), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _z(measured) * _z(shown)


def _z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - _mean(values, axis=0)
    sd = np.sqrt(_mean(centred**2, axis=0))
    # rounding leaves a constant target with a spread near 1e-16 of its value
    constant = sd <= 1e-10 * np.fmax.reduce(np.abs(values), axis=0)
    return np.asarray(centred / np.where(constant, np.nan, sd))


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean over what is a number; NaN, without numpy's warning, where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=axis)
    return np.asarray(np.where(there, values, 0).sum(axis=axis) / np.where(count > 0, count, np.nan))
