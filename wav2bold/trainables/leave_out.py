"""Ridge of some rows, decomposed: what it predicts of rows left out, for every penalty, by products alone.

With S the matrix that takes targets to their fitted values (intercept included) and R = I - S, a fit without
the rows O predicts of them -R_OO^-1 R_OT y_T, T the rows that remain (Cook & Weisberg 1982, for blocks of
rows and with a penalty). One decomposition of all rows so serves every fold.
"""

# N rows: B held out, O out (B and their guard), T train; P features, K directions, A penalties

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray

from wav2bold.errors import DataError

Float = NDArray[np.floating]

ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))
"""Penalties tried, on the squared norm of the weights of standardised features."""
LOST = 1e-6
"""Share of a prediction that float32 may lose to rounding; where it would be more, float64 is taken."""


@dataclass(frozen=True)
class Fold:
    """Rows by their number: held is predicted from train; out is held, then those that serve neither."""

    held: NDArray[np.int64]
    out: NDArray[np.int64]
    train: NDArray[np.int64]


def folds_of(story: NDArray[np.str_], place: NDArray[np.int64], guard: int) -> list[Fold]:
    """One fold a story; of a single story, five stretches with a guard of rows on both sides.

    story: (N,) of each row.  place: (N,) of each row among the volumes, some of which can be missing.
    Raises DataError if a fold has no row to train on.
    """
    stories, number = np.unique(story, return_inverse=True)
    alone = len(stories) == 1
    if alone:
        number = np.arange(len(story)) * 5 // len(story)
    folds = []
    for fold in np.unique(number):
        held = number == fold
        near = np.isin(place, place[held][:, None] + np.arange(-guard, guard + 1)) if alone else held
        train = np.flatnonzero(~held & ~near)
        if not len(train):
            raise DataError(
                f"{stories[0]}: {len(story)} volumes are too few to leave out a fifth and {guard} beside it",
                "train on more stories, or shorten the history",
            )
        rows = np.flatnonzero(held)
        folds.append(Fold(rows, np.concatenate([rows, np.flatnonzero(near & ~held)]), train))
    return folds


@dataclass(frozen=True)
class Solved:
    """Ridge on some rows, whatever the targets and the penalty.

    centre: (P,) mean of the features.  left: (N, K) orthonormal directions over rows.  size: (K,) squared
    singular value of each; infinite for the last, the constant, which the intercept fits without penalty.
    right: (P, K) product of the centred features with left: weights are right (left' y / (size + alpha)).
    whole: left has all N directions (kernel form), and a fold's matrices take its targets as they are; else
    (primal form) they take the targets' product with left.  dtype: of what takes part in those products.
    constant: (N,) as in `solve`.  kept: matrices of folds by number, where they are kept.
    """

    alphas: tuple[float, ...]
    folds: Sequence[Fold]
    centre: NDArray[np.float64]
    left: NDArray[np.float64]
    size: NDArray[np.float64]
    right: NDArray[np.float32]
    whole: bool
    dtype: DTypeLike = np.float32
    constant: NDArray[np.float64] | None = None
    kept: dict[int, list[Float]] = field(default_factory=dict, repr=False)

    def constant_in(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """The constant in some rows; None where it is 1."""
        return None if self.constant is None else self.constant[rows]

    @property
    def matrices_bytes(self) -> int:
        """Memory of all folds' matrices."""
        entries = sum(
            len(fold.held) * (len(fold.train) if self.whole else len(self.size)) for fold in self.folds
        )
        return len(self.alphas) * entries * np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Memory of all that is held."""
        kept = (matrix.nbytes for matrices in self.kept.values() for matrix in matrices)
        return self.left.nbytes + self.right.nbytes + sum(kept)

    def keep(self) -> None:
        """Make the matrices of all folds, once for all."""
        for alpha in self.alphas:
            half = self.left * np.sqrt(alpha / (self.size + alpha)) if self.whole else None
            # a matrix times itself: numpy lets BLAS compute one half of it
            residual = None if half is None else half @ half.T
            for number, fold in enumerate(self.folds):
                matrix = _predicting(self, fold, alpha, residual).astype(self.dtype)
                self.kept.setdefault(number, []).append(matrix)

    def matrices(self, number: int) -> Iterator[Float]:
        """For each penalty, (B, T) in kernel and (B, K) in primal form: predicts a fold's held-out rows.

        The constant is taken out of the prediction for the held-out rows: a correlation doesn't ask for it.
        """
        if number in self.kept:
            yield from self.kept[number]
            return
        for alpha in self.alphas:
            yield _predicting(self, self.folds[number], alpha).astype(self.dtype)


def solve(
    x: NDArray[np.float64],
    folds: Sequence[Fold],
    alphas: tuple[float, ...],
    constant: NDArray[np.float64] | None = None,
) -> Solved:
    """One decomposition of (N, P) features, of the smaller of rows' and features' products.

    constant: (N,) what an intercept of 1 adds to each row, if that isn't 1 itself.
    In float64: in float32 eigh took as long (2 s at 2,000 rows, OpenBLAS 0.3.31) and predictions at a penalty
    of 1 were off by 2e-4 of a target's spread, since it errs by 1e-7 of the largest of all eigenvalues.
    """
    rows, width = x.shape
    x = x.copy()
    centre = level_out(x, constant)
    unit = np.full(rows, rows**-0.5) if constant is None else constant / np.linalg.norm(constant)
    # no fold trains on more rows than there are features: then its rows are fewer numbers to take in
    whole = max(len(fold.train) for fold in folds) <= width
    if whole:
        gram = x @ x.T
        # the constant, which the centred features leave to itself, becomes the largest direction
        size, left = _eigh(gram + (2 * np.trace(gram) + 1) * np.outer(unit, unit))
        left[:, -1] = unit
        size = np.append(np.maximum(size[:-1], 0), np.inf)
        right = x.T @ left
    else:
        size, turned = _eigh(x.T @ x)
        there = size > np.finfo(np.float64).eps * size[-1]
        size, turned = size[there], turned[:, there]
        left = np.column_stack([x @ (turned / np.sqrt(size)), unit])
        right = np.column_stack([turned * np.sqrt(size), np.zeros(width)])
        size = np.append(size, np.inf)
    solved = Solved(alphas, folds, centre, left, size, right.astype(np.float32), whole, constant=constant)
    return solved if whole or _lost(solved) <= LOST else replace(solved, dtype=np.float64)


def _predicting(
    solved: Solved, fold: Fold, alpha: float, residual: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """What `Solved.matrices` gives for one penalty. residual: (N, N), R in kernel form, if it is at hand."""
    left, size = solved.left[fold.out], solved.size
    held = np.eye(len(fold.out), len(fold.held))
    if solved.whole:
        rows = left * (alpha / (size + alpha)) @ solved.left.T if residual is None else residual[fold.out]
        matrix = -np.linalg.solve(rows[:, fold.out], held).T @ rows[:, fold.train]
    else:
        fitted = left / (1 + alpha / size)
        matrix = np.linalg.solve(np.eye(len(fold.out)) - fitted @ left.T, held).T @ fitted
    level_out(matrix, solved.constant_in(fold.held))
    return np.asarray(matrix)


def level_out(values: Float, constant: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Take a constant (N,), 1 where it is None, out of values (N, V) in place; gives how much of it: (V,)."""
    if constant is None:
        # sums of equal float32 are exact in float64: what is constant is exactly zero from here on
        level = values.mean(0, dtype=np.float64)
        values -= level
    else:
        level = constant @ values / (constant @ constant)
        values -= np.outer(constant, level)
    return np.asarray(level)


def _lost(solved: Solved) -> float:
    """Share of a prediction that primal form loses in float32, at the smallest penalty: there it is largest.

    Directions in which only rows left out differ are of no use to a prediction, but take part in the product
    with large numbers that cancel.
    """
    lost = 0.0
    for fold in solved.folds:
        matrix = _predicting(solved, fold, min(solved.alphas))
        taken = (matrix**2).sum()
        of_use = taken - ((matrix @ solved.left[fold.out].T) ** 2).sum()
        if taken > 0:
            lost = max(lost, np.finfo(np.float32).eps * np.sqrt(taken / max(of_use, 1e-30 * taken)))
    return lost


def _eigh(gram: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues in rising order, and eigenvectors."""
    try:
        size, vectors = np.linalg.eigh(gram)
    except np.linalg.LinAlgError:
        # divide and conquer fails on some matrices where slower QR steps do not
        size, vectors = scipy.linalg.eigh(gram, driver="ev")
    return size, vectors
