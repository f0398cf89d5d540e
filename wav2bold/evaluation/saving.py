"""How much scanning time is saved: minutes with which two learning curves reach the same score."""

# K budgets of minutes, R draws of a bootstrap

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from wav2bold.evaluation.intervals import LEVEL


@dataclass(frozen=True)
class Saving:
    """Minutes that `before` needs over those that `after` needs, at the highest score that both reach.

    factor: 1 where nothing is saved.  low, high: between which it lies with a probability of LEVEL, as far as
    the volumes of the test decide; 0 and infinity where the curves don't bound it.
    score: at which they are compared.  at_least: whether `after` reaches it with the fewest minutes already,
    at_most: whether `before` does: the factor is then a bound. NaN where both do, since nothing is compared.
    """

    factor: float
    low: float
    high: float
    score: float
    at_least: bool
    at_most: bool


def saving(
    minutes: ArrayLike,
    before: ArrayLike,
    after: ArrayLike,
    before_draws: NDArray[np.float64],
    after_draws: NDArray[np.float64],
) -> Saving:
    """Of two curves (K,) over minutes (K,), ascending, and of as many draws (R, K) of the two together.

    A curve is made to rise (isotonic regression: more data of one person can't teach less but by chance), and
    runs straight over the logarithm of minutes between budgets. The interval is that of the draws'
    percentiles: a bound in a draw counts as one.
    """
    time = np.log(np.asarray(minutes, np.float64))
    factor, score, at_least, at_most = _compared(time, _rising(before), _rising(after))
    lows, highs = [], []
    for one, other in zip(before_draws, after_draws, strict=True):
        drawn, _, least, most = _compared(time, _rising(one), _rising(other))
        lows.append(0.0 if most else drawn)
        highs.append(np.inf if least else drawn)
    cut = int((1 - LEVEL) / 2 * len(lows))
    low, high = (float(np.sort(some)[place]) for some, place in ((lows, cut), (highs, -1 - cut)))
    return Saving(factor, low, high, score, at_least, at_most)


def _compared(
    time: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[float, float, bool, bool]:
    """The factor, the score at which it is, and whether it is a lower or an upper bound."""
    score = float(min(before[-1], after[-1]))
    at_least, at_most = bool(score <= after[0]), bool(score <= before[0])
    if at_least and at_most:
        return float("nan"), score, True, True
    return float(np.exp(_needed(time, before, score) - _needed(time, after, score))), score, at_least, at_most


def _needed(time: NDArray[np.float64], curve: NDArray[np.float64], score: float) -> float:
    """When a rising curve reaches a score that it does reach; its beginning if it is above from there."""
    place = int(np.argmax(curve >= score))
    if place == 0:
        return float(time[0])
    share = (score - curve[place - 1]) / (curve[place] - curve[place - 1])
    return float(time[place - 1] + share * (time[place] - time[place - 1]))


def _rising(curve: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(isotonic_regression(np.asarray(curve, np.float64)).x)
