"""Stage 1: the head's least squares, solved exactly by cross-validated ridge (himalaya)."""

from dataclasses import dataclass

import numpy as np
from himalaya.kernel_ridge import solve_kernel_ridge_cv_eigenvalues
from himalaya.ridge import solve_ridge_cv_svd
from himalaya.scoring import correlation_score
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit

ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))
"""Penalties tried, on the squared norm of the weights of standardised features."""


@dataclass(frozen=True)
class Head:
    """A linear map from features to targets.

    mean, sd: (P,) of the training features, which are standardised with them.
    weight: (P, V).  bias: (V,).  alpha: (V,) penalty that each target was fitted with.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    alpha: NDArray[np.float32]

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, V) predictions from (N, P) features."""
        return np.asarray(((features - self.mean) / self.sd) @ self.weight + self.bias, np.float32)


def fit_head(
    features: NDArray[np.float32],
    y: NDArray[np.float32],
    story: NDArray[np.str_],
    head_l2: float = 1.0,
    alphas: tuple[float, ...] = ALPHAS,
) -> Head:
    """Ridge with the penalty of each target chosen by cross-validation over stories.

    features: (N, P).  y: (N, V), NaN where a subject lacks the volume.  story: (N,) of each row;
    a fold is a story, or one of five stretches where there is a single story.
    head_l2: the chosen penalty is multiplied by this before the final fit.
    Subjects who heard the same volumes share one decomposition. Primal or kernel form goes by shape.
    """
    mean, sd, standard = standardised(features)
    targets = y.shape[1]
    weight = np.zeros((features.shape[1], targets), np.float32)
    bias, alpha = np.zeros(targets, np.float32), np.zeros(targets, np.float32)
    for rows, columns in _same_rows(np.isfinite(y)):
        fit = fit_rows(
            standard[rows], y[np.ix_(rows, columns)].astype(np.float64), story[rows], head_l2, alphas
        )
        weight[:, columns], bias[columns], alpha[columns] = fit
    return Head(mean, sd, weight, bias, alpha)


def standardised(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Mean (P,) and sd (P,) of features, 1 where they are constant, and the features with them taken out."""
    mean = features.mean(0)
    sd = features.std(0)
    # a constant is left with rounding noise of its own size, also once its drift was removed
    varies = sd > 1e-6 * np.abs(mean) + 1e-5 * sd.max()
    sd = np.where(varies, sd, 1.0).astype(np.float32)
    return mean.astype(np.float32), sd, ((features - mean) / sd).astype(np.float64)


def fit_rows(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    story: NDArray[np.str_],
    head_l2: float = 1.0,
    alphas: tuple[float, ...] = ALPHAS,
    *,
    intercept: bool = True,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights (P, V), intercept (V,) and penalties (V,) of targets that were measured at all rows.

    intercept: without it, the fit goes through the origin.
    """
    options = {
        "alphas": np.array(alphas),
        "cv": _folds(story),
        "score_func": correlation_score,
        "fit_intercept": intercept,
    }
    if x.shape[0] > x.shape[1]:
        best, *_ = solve_ridge_cv_svd(x, y, warn=False, **options)
    else:
        centre = x.mean(0) if intercept else 0.0
        kernel = (x - centre) @ (x - centre).T
        best, *_ = solve_kernel_ridge_cv_eigenvalues(kernel, y, **options)
    alpha = best * head_l2
    return *solve_ridge(x, y, alpha, intercept=intercept), alpha


def held_out(
    x: NDArray[np.float64], y: NDArray[np.float64], story: NDArray[np.str_], alpha: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, V) prediction of every row by the ridge of the other folds. alpha: (V,) penalties."""
    predicted = np.empty_like(y)
    for train, test in _folds(story).split():
        weight, bias = solve_ridge(x[train], y[train], alpha)
        predicted[test] = x[test] @ weight + bias
    return predicted


def solve_ridge(
    x: NDArray[np.float64], y: NDArray[np.float64], alpha: NDArray[np.float64], *, intercept: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (P, V) and intercept (V,) of ridge with a penalty for each target.

    x: (N, P).  y: (N, V).  alpha: (V,) penalty on |w|^2.  intercept: without it, it is 0. One
    singular value decomposition and no array larger than the weights; himalaya's makes one of (V, P, P).
    """
    centre, level = (x.mean(0), y.mean(0)) if intercept else (np.zeros(x.shape[1]), np.zeros(y.shape[1]))
    left, size, right = np.linalg.svd(x - centre, full_matrices=False)
    shrunk = size[:, None] / (size[:, None] ** 2 + alpha)
    weight = right.T @ (shrunk * (left.T @ (y - level)))
    return weight, level - centre @ weight


def _folds(story: NDArray[np.str_]) -> PredefinedSplit:
    """One fold a story; of a single story, five stretches of time."""
    stories, number = np.unique(story, return_inverse=True)
    if len(stories) == 1:
        number = np.arange(len(story)) * 5 // len(story)
    return PredefinedSplit(number)


def _same_rows(
    present: NDArray[np.bool_],
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Groups of targets that have the same volumes: (rows, columns) of each group."""
    patterns, group = np.unique(present, axis=1, return_inverse=True)
    return [
        (np.flatnonzero(patterns[:, number]), np.flatnonzero(group == number))
        for number in range(patterns.shape[1])
    ]
