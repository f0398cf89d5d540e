"""Stage 1: the head on a frozen encoder, with the noise that BOLD has."""

# N rows of windows, P head features, V targets

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.windows import Windows
from wav2bold.trainables.noise import WHITE, Clock, Group, NoiseModel, fit_noise, groups_of, whitened
from wav2bold.trainables.ridge import Head, fit_head, fit_rows, held_out, standardised


def fit_noise_of(
    features: NDArray[np.float32], windows: Windows, tr_s: float, head: Head | None = None
) -> NoiseModel:
    """The noise of BOLD: that of what a ridge on these features doesn't predict of held-out stories.

    features: (N, P) without drift.  head: one fitted to them, whose penalties are taken.
    """
    head = head or fit_head(features, windows.y, windows.story)
    _, _, x = standardised(features)
    residuals = np.full(windows.y.shape, np.nan)
    for group in groups_of(windows.y, windows.story):
        place = np.ix_(group.rows, group.columns)
        y = windows.y[place].astype(np.float64)
        residuals[place] = y - held_out(
            x[group.rows], y, windows.story[group.rows], head.alpha[group.columns].astype(np.float64)
        )
    return fit_noise(residuals, Clock.of(windows, tr_s))


def fit_head_in_noise(
    features: NDArray[np.float32],
    windows: Windows,
    tr_s: float,
    noise: NoiseModel = WHITE,
    head_l2: float = 1.0,
) -> Head:
    """Ridge by generalised least squares: as `fit_head`, where errors are as alike in time as `noise` says.

    Penalties are chosen by cross-validation of what is white, and are those of its least squares.
    """
    if noise.is_white:
        return fit_head(features, windows.y, windows.story, head_l2)
    mean, sd, x = standardised(features)
    clock = Clock.of(windows, tr_s)
    targets = windows.y.shape[1]
    weight = np.zeros((x.shape[1], targets), np.float32)
    bias, alpha = np.zeros(targets, np.float32), np.zeros(targets, np.float32)
    for group in groups_of(windows.y, windows.story):
        fit = _fit_group(group, x, windows, clock, noise, head_l2)
        weight[:, group.columns], bias[group.columns], alpha[group.columns] = fit
    return Head(mean, sd, weight, bias, alpha)


def _fit_group(
    group: Group,
    x: NDArray[np.float64],
    windows: Windows,
    clock: Clock,
    noise: NoiseModel,
    head_l2: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights (P, Vg), intercepts (Vg,) and penalties (Vg,) of targets that were measured together."""
    rows = np.concatenate(group.recordings)
    here, y = x[rows], windows.y[np.ix_(rows, group.columns)].astype(np.float64)
    centre, level = here.mean(0), y.mean(0)
    white_x = whitened(noise, clock, group.recordings, here - centre)
    white_y = whitened(noise, clock, group.recordings, y - level)
    weight, _, alpha = fit_rows(white_x, white_y, windows.story[rows], head_l2, intercept=False)
    return weight, level - centre @ weight, alpha
