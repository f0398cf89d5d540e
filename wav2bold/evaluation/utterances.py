"""How sure a score over test utterances is, and the difference of two: a bootstrap."""

# R draws, U units, N utterances

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from wav2bold.evaluation.intervals import DRAWS, LEVEL, Interval
from wav2bold.trainables.superb.protocol import Score


def utterance_interval(
    score: Score, minus: Score | None = None, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Of a task's score; of the difference where another encoder's is given, paired: both hear each draw.

    What is drawn are units (utterances, or speakers with all of theirs) within each fold. Spread times
    Student's t for as many units, which makes up for what draws of few lack. A draw that has no score, since
    it took one speaker only, is left out. NaN where there are less than two units, or the two weren't tested
    on the same utterances.
    """
    value = score.value if minus is None else score.value - minus.value
    nothing = Interval(value, float("nan"), float("nan"))
    if minus is not None and not (
        np.array_equal(score.unit, minus.unit) and np.array_equal(score.fold, minus.fold)
    ):
        return nothing
    units, folds = len(np.unique(score.unit)), np.unique(score.fold)
    if units < 2:
        return nothing
    random = np.random.default_rng(seed)
    drawn = np.zeros(draws)
    for fold in folds:
        rows = score.fold == fold
        counts = _counts(len(np.unique(score.unit[rows])), draws, random)
        drawn += score.drawn(rows, counts)
        if minus is not None:
            drawn -= minus.drawn(rows, counts)
    drawn = drawn[np.isfinite(drawn)]
    spread = (drawn / len(folds)).std(ddof=1) * np.sqrt(units / (units - 1))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, units - 1) * spread)
    return Interval(value, value - reach, value + reach)


def _counts(units: int, draws: int, random: np.random.Generator) -> NDArray[np.float32]:
    """How often each draw takes each unit, (R, U)."""
    counts = [np.bincount(random.integers(0, units, units), minlength=units) for _ in range(draws)]
    return np.stack(counts).astype(np.float32)
