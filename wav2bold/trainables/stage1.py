"""Stage 1: the head on a frozen encoder, with the noise that BOLD has."""

# N rows of windows, P head features, V targets

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Configuration
from wav2bold.datasets.windows import Windows
from wav2bold.trainables.adam_head import fit_by_adam
from wav2bold.trainables.leave_out import ALPHAS
from wav2bold.trainables.noise import WHITE, Clock, NoiseModel, fit_noise, groups_of, whitened
from wav2bold.trainables.ridge import (
    MAX_BYTES,
    Decomposition,
    Head,
    decompose,
    fit_head,
    standardised,
)
from wav2bold.trainables.shared_head import fit_shared_head

ADAM_STEPS, ADAM_LR = 2000, 1e-2
"""With which Adam came within 1e-3 of ridge's predictions in tests."""


def solve_stage1(
    features: NDArray[np.float32],
    windows: Windows,
    tr_s: float,
    configuration: Configuration,
    seed: int,
    noise: NoiseModel | None = None,
) -> tuple[Head, NoiseModel]:
    """The head of a configuration, and the noise that it was fitted in.

    features: (N, P) without drift.  noise: if it is known; None fits it, where the configuration has one.
    """
    guard = configuration.history
    if noise is None:
        noise = fit_noise_of(features, windows, tr_s, guard) if configuration.noise == "ar" else WHITE
    fit = fit_shared_head if configuration.head == "shared" else fit_head_in_noise
    head = fit(features, windows, tr_s, noise, configuration.head_l2, guard)
    if configuration.stage1 == "adam":
        head = fit_by_adam(features, windows.y, head.alpha, ADAM_STEPS, ADAM_LR, seed)
    return head, noise


def fit_noise_of(features: NDArray[np.float32], windows: Windows, tr_s: float, guard: int = 0) -> NoiseModel:
    """The noise of BOLD: that of what a ridge on these features doesn't predict of held-out stories.

    features: (N, P) without drift.  guard: as in `decompose`.
    """
    shared = decompose(features, windows.story, guard=guard)
    residuals = shared.residuals(windows.y, shared.fit(windows.y).alpha)
    return fit_noise(residuals, Clock.of(windows, tr_s))


def fit_head_in_noise(
    features: NDArray[np.float32],
    windows: Windows,
    tr_s: float,
    noise: NoiseModel = WHITE,
    head_l2: float = 1.0,
    guard: int = 0,
) -> Head:
    """Ridge by generalised least squares: as `fit_head`, where errors are as alike in time as `noise` says.

    Penalties are chosen by cross-validation of what is white, and are those of its least squares, in which a
    constant is fitted too and then forgotten.
    guard: as in `decompose`.
    """
    if noise.is_white:
        return fit_head(features, windows.y, windows.story, head_l2, guard=guard)
    mean, sd, x = standardised(features)
    clock = Clock.of(windows, tr_s)
    weight = np.zeros((x.shape[1], windows.y.shape[1]), np.float32)
    bias, alpha = np.zeros((2, windows.y.shape[1]), np.float32)
    for group in groups_of(windows.y, windows.story):
        if not len(group.rows):
            continue
        rows = np.concatenate(group.recordings)
        here, y = x[rows].astype(np.float64), windows.y[np.ix_(rows, group.columns)].astype(np.float64)
        centre, level = here.mean(0), y.mean(0)
        white_x, white_y = (
            np.asarray(whitened(noise, clock, group.recordings, some), np.float32)
            for some in (here - centre, y - level)
        )
        none, one = np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
        alphas = tuple(sorted(ALPHAS, reverse=True))
        fit = Decomposition(none, one, white_x, windows.story[rows], alphas, guard, MAX_BYTES).fit(
            white_y, head_l2
        )
        weight[:, group.columns], alpha[group.columns] = fit.weight, fit.alpha
        bias[group.columns] = level - centre @ fit.weight
    return Head(mean, sd, weight, bias, alpha)
