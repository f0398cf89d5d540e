"""One head for all people, whose targets are the same places: ridge on all their rows at the cost of one's.

Whoever hears a row has the same features there. With y_s a story's BOLD of person s at the rows that E_s
picks, R_s its noise and f a head's prediction, the squared errors that are white sum to

    sum_s (y_s - E_s f)' R_s^-1 (y_s - E_s f) = |A (m - f)|^2 + what no head changes,

    A'A = sum_s E_s' R_s^-1 E_s,    A'A m = sum_s E_s' R_s^-1 y_s

(complete the square in f). In white noise A is the root of how many people have each row, and m their mean.
"""

# N rows of windows, S people, B rows of a story, P head features, V targets of one person

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from wav2bold.datasets.windows import Windows
from wav2bold.trainables.leave_out import ALPHAS
from wav2bold.trainables.noise import WHITE, Clock, NoiseModel, whitener
from wav2bold.trainables.ridge import MAX_BYTES, Decomposition, Head, standardised


def for_everyone(predicted: NDArray[np.float32], targets: int) -> NDArray[np.float32]:
    """(N, targets of all people) predictions, from a head's: of a shared one, everybody's are the same."""
    return np.tile(predicted, (1, targets // predicted.shape[1]))


def fit_shared_head(
    features: NDArray[np.float32],
    windows: Windows,
    tr_s: float,
    noise: NoiseModel = WHITE,
    head_l2: float = 1.0,
    guard: int = 0,
) -> Head:
    """The ridge of all people's rows together, with one weight and one bias for each target: (P, V), (V,).

    features: (N, P) without drift.  windows: of people with equally many targets, which are the same places.
    noise, head_l2, guard: as in `fit_head_in_noise`. The penalty is chosen as there, by the correlation with
    the held-out rows of all people together.
    """
    mean, sd, x = standardised(features)
    people = len(dict.fromkeys(windows.subject.tolist()))
    y_NSV = windows.y.reshape(len(windows), people, -1)
    most = max(MAX_BYTES // (32 * len(windows) * people), 1)
    weight = np.zeros((x.shape[1], y_NSV.shape[2]), np.float32)
    bias, alpha = np.zeros((2, y_NSV.shape[2]), np.float32)
    time_tr = Clock.of(windows, tr_s).time_tr
    for columns, there_NS in _alike(y_NSV):
        heard = np.flatnonzero(there_NS.any(1))
        stories = [heard[windows.story[heard] == story] for story in dict.fromkeys(windows.story[heard])]
        if not stories:
            continue
        pools = [Pool.of(noise, time_tr[rows], there_NS[rows]) for rows in stories]
        shared = _decomposed(x, pools, stories, windows.story, guard)
        for first in range(0, len(columns), most):
            some = columns[first : first + most]
            level = np.nanmean(y_NSV[:, :, some], axis=(0, 1), dtype=np.float64)
            told = [
                pool.told(y_NSV[rows][:, :, some] - level) for pool, rows in zip(pools, stories, strict=True)
            ]
            white_y, beside = (np.concatenate(part).astype(np.float32) for part in zip(*told, strict=True))
            fit = shared.fit(white_y, head_l2, beside)
            weight[:, some], alpha[some], bias[some] = fit.weight, fit.alpha, level + fit.bias
    return Head(mean, sd, weight, bias, alpha)


def _decomposed(
    x: NDArray[np.float32],
    pools: Sequence["Pool"],
    stories: Sequence[NDArray[np.int64]],
    story: NDArray[np.str_],
    guard: int,
) -> Decomposition:
    """Of standardised features (N, P) and a constant, both made white. stories: the rows of each pool."""
    white_x, constant = (
        np.concatenate([pool.white @ some[rows] for pool, rows in zip(pools, stories, strict=True)])
        for some in (x.astype(np.float64), np.ones(len(x)))
    )
    none, one = np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    alphas, story = tuple(sorted(ALPHAS, reverse=True)), story[np.concatenate(stories)]
    return Decomposition(none, one, white_x.astype(np.float32), story, alphas, guard, MAX_BYTES, constant)


@dataclass(frozen=True)
class Pool:
    """What a story's recordings ask of a head, as if they were one.

    white: (B, B) A, lower triangular.  people: number, rows (B,) bool and own whitener of each who heard it.
    """

    white: NDArray[np.float64]
    people: Sequence[tuple[int, NDArray[np.bool_], NDArray[np.float64]]]

    @classmethod
    def of(cls, noise: NoiseModel, time_tr: NDArray[np.float64], there_BS: NDArray[np.bool_]) -> "Pool":
        """Pool of recordings at these times; each row was measured in somebody."""
        people = [
            (person, there, whitener(noise, time_tr[there]))
            for person, there in enumerate(there_BS.T)
            if there.any()
        ]
        precision = np.zeros((len(time_tr), len(time_tr)))
        for _, there, own in people:
            precision[np.ix_(there, there)] += own.T @ own
        # a factor whose rows ask of nothing later, as whiteners have it: that of the matrix turned around
        return cls(cholesky(precision[::-1, ::-1])[::-1, ::-1], people)

    def told(self, y_BSV: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A m, and in each row the squares of all people's white values beside its own: (B, V) each.

        y_BSV: NaN where not measured.
        """
        asked_BV = np.zeros((len(y_BSV), y_BSV.shape[2]))
        squares_BV = np.zeros_like(asked_BV)
        for person, there, own in self.people:
            white_BV = own @ y_BSV[there, person]
            asked_BV[there] += own.T @ white_BV
            squares_BV[there] += white_BV**2
        white_y = solve_triangular(self.white, asked_BV, trans="T", lower=True)
        return white_y, squares_BV - white_y**2


def _alike(y_NSV: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Targets that were measured in the same rows of the same people: their columns, and (N, S) whether."""
    rows, people, _ = y_NSV.shape
    patterns, number = np.unique(np.isfinite(y_NSV).reshape(rows * people, -1), axis=1, return_inverse=True)
    for pattern in range(patterns.shape[1]):
        yield np.flatnonzero(number.ravel() == pattern), patterns[:, pattern].reshape(rows, people)
