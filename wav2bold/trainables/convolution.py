"""A convolution in time between features and a head's linear map: a kernel over TRs for each feature.

Each TR of a window gets a sum of itself and of those before it, weighed alike in all windows and for all
targets; before the first there is nothing. A linear map follows, so both together are one linear map again.
"""

# B windows, K hidden states side by side, R TRs of a window, D features of one, P = K R D, J taps, V targets

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import Configuration


def first_kernel(configuration: Configuration, features: int) -> NDArray[np.float32] | None:
    """(K, D, J) kernels that change nothing, for so many features; None for a head that doesn't convolve."""
    if configuration.head != "conv_linear":
        return None
    states = len(configuration.layers) if isinstance(configuration.layers, tuple) else 1
    kernel = np.zeros((states, features // (states * configuration.history), configuration.conv_kernel))
    kernel[:, :, 0] = 1
    return kernel.astype(np.float32)


def convolved(features_BP: Tensor, kernel_KDJ: Tensor) -> Tensor:
    """(B, P) features, convolved. kernel_KDJ: weights of the TR itself, of the one before it, and so on."""
    features_BKRD = _by_tr(features_BP.T, kernel_KDJ).permute(3, 0, 1, 2)
    trs = features_BKRD.shape[2]
    return torch.einsum("kdsr,bkrd->bksd", _matrices(kernel_KDJ, trs), features_BKRD).flatten(1)


def folded(weight_PV: Tensor, kernel_KDJ: Tensor) -> Tensor:
    """(P, V) that maps features as `convolved` and then this weight (P, V) do."""
    weight_KRDV = _by_tr(weight_PV, kernel_KDJ)
    trs = weight_KRDV.shape[1]
    return torch.einsum("kdsr,ksdv->krdv", _matrices(kernel_KDJ, trs), weight_KRDV).flatten(0, 2)


def _by_tr(some_PV: Tensor, kernel_KDJ: Tensor) -> Tensor:
    """(K, R, D, V)."""
    states, width, _ = kernel_KDJ.shape
    some_KRDV: Tensor = some_PV.unflatten(0, (states, -1, width))
    return some_KRDV


def _matrices(kernel_KDJ: Tensor, trs: int) -> Tensor:
    """(K, D, R, R) what each TR (row) takes of each."""
    place = torch.arange(trs, device=kernel_KDJ.device)
    lag_RR = place[:, None] - place[None, :]
    reached_RR = (lag_RR >= 0) & (lag_RR < kernel_KDJ.shape[2])
    return torch.where(reached_RR, kernel_KDJ[:, :, lag_RR.clamp(0, kernel_KDJ.shape[2] - 1)], 0.0)
