"""Stage 1: the head's least squares, solved exactly; all who heard the same stories share the work."""

# N rows, P features, V targets, A penalties

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from wav2bold.trainables.leave_out import ALPHAS, Float, Fold, Solved, folds_of, level_out, solve

MAX_BYTES = 2 << 30
"""Half of it holds decompositions, half a batch of targets."""


@dataclass(frozen=True)
class Head:
    """A linear map from features to targets.

    mean, sd: (P,) of the training features, which are standardised with them.
    weight: (P, V).  bias: (V,).  alpha: (V,) penalty that each target was fitted with; 0 for a target that
    was constant in training, or never measured: its weights are 0 and its bias its mean, or 0. Such a
    prediction is constant and its score therefore NaN.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    alpha: NDArray[np.float32]

    @property
    def constant(self) -> int:
        """Targets that had nothing to fit."""
        return int((self.alpha == 0).sum())

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, V) predictions from (N, P) features."""
        return np.asarray(((features - self.mean) / self.sd) @ self.weight + self.bias, np.float32)


def fit_head(
    features: NDArray[np.float32],
    y: NDArray[np.float32],
    story: NDArray[np.str_],
    head_l2: float = 1.0,
    alphas: tuple[float, ...] = ALPHAS,
    guard: int = 0,
) -> Head:
    """Ridge with the penalty of each target chosen by cross-validation: `decompose`, then `fit`."""
    return decompose(features, story, alphas, guard).fit(y, head_l2)


def decompose(
    features: NDArray[np.float32],
    story: NDArray[np.str_],
    alphas: tuple[float, ...] = ALPHAS,
    guard: int = 0,
    max_bytes: int = MAX_BYTES,
) -> "Decomposition":
    """What ridge on some features shares among all targets and penalties.

    features: (N, P).  story: (N,) of each row; a fold is a story, or one of five stretches where there is a
    single story.  alphas: penalties tried, above 0.  guard: rows on both sides of a stretch that are not
    trained on when it is held out; give the history, for they were heard in part with it.
    max_bytes: memory for what is kept and for a batch of targets, beside features, decomposition and head.
    """
    assert min(alphas) > 0
    falling = tuple(
        sorted(alphas, reverse=True)
    )  # of equals the first is chosen: where nothing tells, shrink
    return Decomposition(*standardised(features), story, falling, guard, max_bytes)


def standardised(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean (P,) and sd (P,) of (N, P) features, and the features standardised with them."""
    mean = features.mean(0)
    sd = features.std(0)
    # a constant is left with rounding noise of its own size, also once its drift was removed
    varies = sd > 1e-6 * np.abs(mean) + 1e-5 * sd.max()
    sd = np.where(varies, sd, 1.0).astype(np.float32)
    return mean.astype(np.float32), sd, np.asarray((features - mean) / sd, np.float32)


@dataclass(frozen=True)
class Decomposition:
    """Standardised features, and ridge on each set of their rows that targets were measured in.

    A set is decomposed when a target first needs it; another subject with the same rows then costs matrix
    products only. standard: (N, P).  alphas: falling.  Other fields: see `decompose`.
    constant: (N,) what an intercept of 1 adds to each row; None where that is 1 itself.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    standard: NDArray[np.float32]
    story: NDArray[np.str_]
    alphas: tuple[float, ...]
    guard: int
    max_bytes: int
    constant: NDArray[np.float64] | None = None
    _solved: dict[bytes, Solved] = field(default_factory=dict, repr=False)

    def fit(
        self, y: NDArray[np.float32], head_l2: float = 1.0, beside: NDArray[np.float32] | None = None
    ) -> Head:
        """Ridge with the penalty of each target chosen by cross-validation.

        y: (N, V), NaN where a subject lacks the volume.  head_l2: the chosen penalty is multiplied by this
        before the final fit. The penalty chosen has the highest Pearson r, mean over folds; a fold counts 0
        where target or prediction is constant; of equals the largest is taken. Subjects who lack volumes are
        fitted on their own rows.
        beside: (N, V) squares of what the target has in these rows and no head predicts, if y leaves some
        out: they belong to a target's size in its correlation.
        Raises DataError if a fold has no row to train on.
        """
        weight = np.zeros((self.standard.shape[1], y.shape[1]), np.float32)
        bias, alpha = np.zeros((2, y.shape[1]), np.float32)
        for rows, batch in self._batches(y):
            values = np.asarray(y[np.ix_(rows, batch)], np.float32)
            bias[batch] = level_out(values, self._constant_in(rows))
            varies = values.any(0)
            if not varies.any():
                continue
            columns = batch[varies]
            if len(columns) < len(batch):
                values = values[:, varies]
            solved = self._of(rows)
            more = None if beside is None else beside[np.ix_(rows, columns)]
            best = np.array(self.alphas)[_scores(solved, values, more).argmax(0)] * head_l2
            code = _product(solved.left.T.astype(np.float32), values)
            code /= np.add.outer(solved.size, best).astype(np.float32)
            fitted = _product(solved.right, code)
            weight[:, columns], alpha[columns] = fitted, best
            bias[columns] -= solved.centre.astype(np.float32) @ fitted
        return Head(self.mean, self.sd, weight, bias, alpha)

    def residuals(self, y: NDArray[np.float32], alpha: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the fits of the other folds don't predict of each fold, without its mean there: (N, V).

        y: (N, V), as in `fit`.  alpha: (V,) among the penalties tried. NaN where nothing was measured, and 0
        where a target is constant.
        """
        found = np.full(y.shape, np.nan, np.float32)
        chosen = np.abs(np.array(self.alphas)[:, None] - alpha).argmin(0)
        for rows, batch in self._batches(y):
            values = np.asarray(y[np.ix_(rows, batch)], np.float32)
            level_out(values, self._constant_in(rows))
            solved = self._of(rows)
            code = _code(solved, values)
            for number, fold in enumerate(solved.folds):
                held = values[fold.held]
                _, taken = _taken(solved, fold, values, code)
                for row, matrix in enumerate(solved.matrices(number)):
                    columns = np.flatnonzero(chosen[batch] == row)
                    if len(columns):
                        held[:, columns] -= _product(matrix, np.ascontiguousarray(taken[:, columns]))
                level_out(held, solved.constant_in(fold.held))
                held[:, alpha[batch] == 0] = 0
                found[np.ix_(rows[fold.held], batch)] = held
        return found

    def _constant_in(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        return None if self.constant is None else self.constant[rows]

    def _batches(self, y: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Targets that have the same volumes, as many as memory allows: (rows, columns) of each batch."""
        volumes, targets = y.shape
        # what `fit` and `_scores` make of a target, with some to spare
        most = int(max(self.max_bytes / 2 // (24 * volumes + 16 * self.standard.shape[1]), 1))
        alike: dict[bytes, list[NDArray[np.int64]]] = {}
        for first in range(0, targets, most):
            present = np.packbits(np.isfinite(y[:, first : first + most]), axis=0)
            patterns, group = np.unique(present, axis=1, return_inverse=True)
            for number in range(patterns.shape[1]):
                columns = first + np.flatnonzero(group == number)
                alike.setdefault(patterns[:, number].tobytes(), []).append(columns)
        for pattern, parts in alike.items():
            rows = np.flatnonzero(np.unpackbits(np.frombuffer(pattern, np.uint8), count=volumes))
            columns = np.concatenate(parts)
            for first in range(0, len(columns) if len(rows) else 0, most):
                yield rows, columns[first : first + most]

    def _of(self, rows: NDArray[np.int64]) -> Solved:
        """Ridge on a set of rows. The oldest sets go where all together take too much memory."""
        key = rows.tobytes()
        if key not in self._solved:
            folds = folds_of(self.story[rows], rows, self.guard)
            x = self.standard[rows].astype(np.float64)
            solved = solve(x, folds, self.alphas, self._constant_in(rows))
            if solved.matrices_bytes <= self.max_bytes / 2:
                solved.keep()
            held = sum(each.nbytes for each in self._solved.values())
            while self._solved and held + solved.nbytes > self.max_bytes / 2:
                held -= self._solved.pop(next(iter(self._solved))).nbytes
            self._solved[key] = solved
        return self._solved[key]


def _scores(
    solved: Solved, values: NDArray[np.float32], beside: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Held-out Pearson r of every penalty and target, mean over folds: (A, V).

    values: (N, V) without their constant.  beside: as in `Decomposition.fit`.
    """
    scores = np.zeros((len(solved.alphas), values.shape[1]))
    code = _code(solved, values)
    for number, fold in enumerate(solved.folds):
        train, taken = _taken(solved, fold, values, code)
        held = values[fold.held].astype(np.float64)
        level_out(held, solved.constant_in(fold.held))
        spread = np.sqrt((held**2).sum(0) + (0 if beside is None else beside[fold.held].sum(0)))
        compared = (spread > 0) & train.any(0)
        for row, matrix in enumerate(solved.matrices(number)):
            predicted = _product(matrix, taken)
            size = np.sqrt(np.einsum("ij,ij->j", predicted, predicted, dtype=np.float64))
            product = np.einsum("ij,ij->j", predicted, held)
            r = np.divide(product, size * spread, out=np.zeros_like(size), where=compared & (size > 0))
            scores[row] += r / len(solved.folds)
    return scores


def _taken(
    solved: Solved, fold: Fold, values: NDArray[np.float32], code: Float | None
) -> tuple[NDArray[np.float32], Float]:
    """A fold's training rows' values without their constant, and what its matrices take.

    code: the product of left and all values in primal form, else None.
    """
    train = values[fold.train]
    level_out(train, solved.constant_in(fold.train))
    if code is None:
        return train, train
    return train, np.asarray(code - solved.left[fold.out].T.astype(solved.dtype) @ values[fold.out])


def _code(solved: Solved, values: NDArray[np.float32]) -> Float | None:
    """The product of left and values (N, V) in primal form: (K, V)."""
    return None if solved.whole else _product(solved.left.T.astype(solved.dtype), values)


def _product(left: Float, right: Float) -> Float:
    """Matrix product; in float32 by oneDNN where torch has it.

    On AMD oneDNN takes AVX-512, where numpy's OpenBLAS and torch's MKL take AVX2: 225 against 125 GFLOPS
    on a core of EPYC's fifth generation.
    """
    single = left.dtype == right.dtype == np.float32
    if not (single and torch.backends.mkldnn.is_available()):
        return left @ right
    product = np.empty((len(left), right.shape[1]), np.float32)
    packed = torch.from_numpy(left).to_mkldnn()
    for first in range(0, right.shape[1], 2048):  # oneDNN makes a copy of what it takes
        columns = torch.from_numpy(right[:, first : first + 2048]).T
        product[:, first : first + 2048] = torch.nn.functional.linear(packed, columns).to_dense()
    return product
