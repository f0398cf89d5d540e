"""Banded ridge: several sets of features, each with a penalty of its own for every target."""

# N rows, P features, V targets, B bands

from collections.abc import Sequence

import numpy as np
from himalaya.kernel_ridge import MultipleKernelRidgeCV
from numpy.typing import NDArray

from wav2bold.trainables.leave_out import folds_of
from wav2bold.trainables.ridge import standardised

MIXTURES = 20
"""Ways to share out the penalty among bands that are tried."""
ALPHAS = np.logspace(-2, 5, 15)
"""Penalties tried, where each row's features have a mean square of 1."""
TARGETS_AT_ONCE = 4000


def banded_predictions(
    train: Sequence[NDArray[np.float32]],
    test: Sequence[NDArray[np.float32]],
    y: NDArray[np.float32],
    story: NDArray[np.str_],
    guard: int,
    seed: int = 0,
) -> NDArray[np.float32]:
    """(N, V) predictions of test rows by banded ridge on training rows.

    train, test: (N, P) of each band.  y: (N, V) of the training rows.  story: (N,) of them; folds and guard
    are those of plain ridge. A band that doesn't help a target gets a small share there, so that adding it
    costs little (Dupré la Tour et al. 2022). himalaya's random search over shares, with these folds;
    penalties are chosen by squared error, since variances are compared.
    """
    kernels, others = [], []
    for one, other in zip(train, test, strict=True):
        mean, sd, standard = standardised(one)
        x, x_test = standard.astype(np.float64), ((other - mean) / sd).astype(np.float64)
        size = np.einsum("np,np->", x, x) / len(x)
        kernels.append(x @ x.T / size)
        others.append(x_test @ x.T / size)
    folds = folds_of(story, np.arange(len(y)), guard)
    level = y.mean(0)
    model = MultipleKernelRidgeCV(
        kernels="precomputed",
        solver="random_search",
        solver_params={
            "n_iter": mixtures(len(train), MIXTURES, seed),
            "alphas": ALPHAS,
            "n_targets_batch": TARGETS_AT_ONCE,
            "n_targets_batch_refit": TARGETS_AT_ONCE,
            "n_alphas_batch": 5,
            "progress_bar": False,
        },
        cv=[(fold.train, fold.held) for fold in folds],
        random_state=seed,
    )
    model.fit(np.stack(kernels), np.asarray(y - level, np.float64))
    return np.asarray(model.predict(np.stack(others)) + level, np.float32)


def mixtures(bands: int, number: int, seed: int) -> NDArray[np.float64]:
    """(number, B) shares that add up to 1: each band nearly alone, equal ones, and random ones.

    A single band has all: (1, 1).
    """
    if bands == 1:
        return np.ones((1, 1))
    alone = np.where(np.eye(bands, dtype=bool), 1.0, 1e-6)
    drawn = np.random.default_rng(seed).dirichlet(np.full(bands, 0.5), number - bands - 1)
    found = np.concatenate([alone, np.full((1, bands), 1 / bands), np.maximum(drawn, 1e-6)])
    return np.asarray(found / found.sum(1, keepdims=True))
