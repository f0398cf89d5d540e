"""Two predictions of one subject's BOLD, target by target: where the second is better, and how surely."""

# T volumes, V targets

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2bold.evaluation.intervals import Interval, resampled_scores
from wav2bold.evaluation.significance import PAIRED_BLOCK_S, improvement_p
from wav2bold.trainables.scores import Gain, paired_gain, pearson


@dataclass(frozen=True)
class Versus:
    """How `after` did beside `before`.

    before, after: (V,) r.  p: (V,) one-sided, that `after` is better, not corrected for how many targets.
    gain: in brain score, paired over blocks of time.  interval: of that gain.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    p: NDArray[np.float64]
    gain: Gain
    interval: Interval


def versus(
    y: NDArray[np.floating],
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    story: NDArray[np.str_],
    tr_s: float,
) -> Versus:
    """Compare two predictions (T, V) of y (T, V). story: (T,) of each row, in time within each."""
    return Versus(
        before=pearson(y, before),
        after=pearson(y, after),
        p=improvement_p(y, before, after, story, tr_s),
        gain=paired_gain(y, before, after, max(round(PAIRED_BLOCK_S / tr_s), 1)),
        interval=resampled_scores(y, (before, after), story, tr_s).interval(1, minus=0),
    )
