"""What subjects have in common: each counts once, however many targets or volumes there are of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from wav2bold.evaluation.intervals import LEVEL, Interval


@dataclass(frozen=True)
class Summary:
    """Over subjects, the mean of one number each.

    mean: with Student's interval, NaN for a single subject.  p: one-sided, that the numbers lie above 0 no
    more than below (Wilcoxon's signed ranks, exact up to 50 subjects without equal ones).  above: in how many
    subjects the number is above 0.  subjects: who have one.
    """

    mean: Interval
    p: float
    above: int
    subjects: int


def summary(values: Sequence[float]) -> Summary:
    """Of one number per subject; those without one (NaN) are left out."""
    known = np.array([value for value in values if np.isfinite(value)], np.float64)
    count = len(known)
    if not count:
        nothing = float("nan")
        return Summary(Interval(nothing, nothing, nothing), nothing, 0, 0)
    mean = float(known.mean())
    low = high = float("nan")
    if count > 1:
        reach = stats.t.ppf((1 + LEVEL) / 2, count - 1) * known.std(ddof=1) / np.sqrt(count)
        low, high = mean - float(reach), mean + float(reach)
    p = float(stats.wilcoxon(known, alternative="greater").pvalue) if known.any() else 1.0
    return Summary(Interval(mean, low, high), p, int((known > 0).sum()), count)
