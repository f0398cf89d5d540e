"""How sure a brain score is: a bootstrap over blocks of time."""

# T volumes, V targets, G regions, R draws, M predictions

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from wav2bold.evaluation.blocks import block_volumes, resampled_counts
from wav2bold.trainables.scores import batches, pearson

BLOCK_S = 80.0
"""Length of a block. With 15 s, intervals of simulated scores held the truth in 87 to 94% in place of 95%,
since what is predicted remembers longer than noise does."""
LEAST_BLOCKS = 5
DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A number and where it lies with a probability of LEVEL."""

    value: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, float]:
        """Its numbers in a row of a table: `name`, `name_low`, `name_high`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class Resampled:
    """Brain scores of predictions of the same BOLD, and of draws from its volumes.

    scores: (M, G) mean r over each region's targets.  draws: (R, M, G), the same volumes for all predictions.
    blocks: of time, as many as a draw takes.
    """

    scores: NDArray[np.float64]
    draws: NDArray[np.float64]
    blocks: int

    def interval(self, prediction: int, region: int = 0, minus: int | None = None) -> Interval:
        """Of a prediction's brain score; of the difference where another prediction is given.

        The draws' standard deviation times Student's t for as many blocks, which makes up for what draws
        from few blocks lack in spread. NaN where nothing has a correlation.
        """
        value, draws = self.scores[prediction, region], self.draws[:, prediction, region]
        if minus is not None:
            value, draws = value - self.scores[minus, region], draws - self.draws[:, minus, region]
        if self.blocks < 2:
            return Interval(float(value), float("nan"), float("nan"))
        spread = draws.std(ddof=1) * np.sqrt(self.blocks / (self.blocks - 1))
        reach = stats.t.ppf((1 + LEVEL) / 2, self.blocks - 1) * spread
        return Interval(float(value), float(value - reach), float(value + reach))


def resampled_scores(
    y: NDArray[np.floating],
    predictions: Sequence[NDArray[np.floating]],
    story: NDArray[np.str_],
    tr_s: float,
    regions: NDArray[np.bool_] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Resampled:
    """Brain scores of M predictions (T, V) of y (T, V), and of draws by a circular block bootstrap.

    story: (T,) of each row, in time within each.  regions: (G, V) which targets each has; None: one of all.
    A target without a correlation under any of the predictions is left out of all. Sums of y, of a
    prediction, of their squares and products, with each row taken as often as a draw has it, are all that r
    of a draw needs: they are matrix products, made for a batch of targets at a time.
    """
    volumes, targets = y.shape
    members = np.ones((1, targets), bool) if regions is None else regions
    r = np.stack([pearson(y, predicted) for predicted in predictions])
    known = np.isfinite(r).all(0)
    length = block_volumes(story, tr_s, BLOCK_S, LEAST_BLOCKS)
    counts = resampled_counts(story, length, draws, np.random.default_rng(seed)) / volumes
    shares = (members & known).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a region without any target that has a correlation
        shares /= shares.sum(1, keepdims=True)
    scores = np.where(known, r, 0.0) @ shares.T
    drawn = np.zeros((draws, len(predictions), len(members)))
    columns = np.flatnonzero(known)
    for batch in batches(len(columns), 4 * (6 + len(predictions)) * draws + 40 * volumes):
        some = columns[batch]
        drawn += np.einsum(
            "mrv,gv->rmg",
            _drawn_r(counts, y[:, some], [predicted[:, some] for predicted in predictions]),
            shares[:, some],
            optimize=True,
        )
    drawn[:, :, ~np.isfinite(shares).all(1)] = np.nan
    return Resampled(scores, drawn, volumes // length)


def _drawn_r(
    counts: NDArray[np.float32], y: NDArray[np.floating], predictions: Sequence[NDArray[np.floating]]
) -> NDArray[np.float32]:
    """Correlations of each draw and target, (M, R, V). counts: (R, T) share of each row in a draw."""
    measured = _standard(y)
    mean = counts @ measured
    variance = counts @ measured**2 - mean**2
    found = []
    for predicted in predictions:
        guess = _standard(predicted)
        its_mean = counts @ guess
        its_variance = counts @ guess**2 - its_mean**2
        together = counts @ (measured * guess) - mean * its_mean
        size = np.sqrt(np.maximum(variance * its_variance, 1e-12))  # 0 in a draw of equal rows alone
        found.append(together / size)
    return np.stack(found)


def _standard(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Of mean 0 and unit variance over rows: sums of float32 then lose nothing that matters."""
    centred = values - values.mean(0, dtype=np.float64)
    return np.asarray(centred / centred.std(0), np.float32)
