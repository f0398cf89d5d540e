"""How the frames of a window become what the head reads: a fixed matrix for each way."""

# F frames, n TRs of history, R rows of the matrix

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Pooling
from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.trainables.encoder import Encoder

LOBES = 3
"""Of the Lanczos kernel on each side, as encoding models have it (Huth et al. 2016)."""


def pooling(
    encoder: Encoder, frames: int, history: int, tr_s: float, kind: Pooling = "tr"
) -> NDArray[np.float32]:
    """What a window's frames are multiplied by: (R, F), each row sums to 1.

    R is n for tr and lanczos, whose rows are TRs, the earliest first, and 1 for mean and last. A frame has
    the time of the middle of its receptive field. For tr it belongs to the TR in which that lies. For lanczos
    its weight is the kernel's at its distance from the middle of the row's TR; what of a kernel lies outside
    the window, such as after the volume, is cut off and the rest made to sum to 1.
    """
    time_tr = (np.arange(frames) * encoder.stride + encoder.receptive_field / 2) / SAMPLE_RATE_HZ / tr_s
    if kind == "mean":
        weight = np.ones((1, frames))
    elif kind == "lanczos":
        weight = _lanczos(time_tr[None, :] - (np.arange(history)[:, None] + 0.5))
    else:
        tr_of_frame = np.minimum(time_tr.astype(int), history - 1)
        rows = [history - 1] if kind == "last" else range(history)
        weight = (tr_of_frame[None, :] == np.asarray(rows)[:, None]).astype(float)
    return np.asarray(weight / weight.sum(1, keepdims=True), np.float32)


def _lanczos(distance_tr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kernel of a low-pass filter at half the rate of TRs, their Nyquist frequency (Duchon 1979)."""
    kernel = np.sinc(distance_tr) * np.sinc(distance_tr / LOBES)
    return np.where(np.abs(distance_tr) < LOBES, kernel, 0.0)
