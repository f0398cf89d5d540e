"""Slow drift, taken out of features as cleaning took it out of BOLD.

What was high-pass filtered can't be predicted by features that still drift: they get the same
filter, per story, at training and at prediction.
"""

# B windows, N of them, P head features, K drift terms

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.windows import Windows

Device = torch.device | str


class Drift:
    """The drift terms of some windows: per story a constant, a line and slow cosines.

    cleaning: as in the dataset's card; `high_pass_s` is the slowest period kept. Where BOLD was
    neither filtered nor detrended nothing is taken out.
    """

    def __init__(self, windows: Windows, cleaning: Mapping[str, Any]) -> None:
        stories = [np.flatnonzero(windows.story == story) for story in dict.fromkeys(windows.story)]
        bases = [_basis(windows.stop[rows] / SAMPLE_RATE_HZ, cleaning) for rows in stories]
        self.terms = np.zeros((len(windows), sum(basis.shape[1] for basis in bases)), np.float32)
        first = 0
        for rows, basis in zip(stories, bases, strict=True):
            self.terms[rows, first : first + basis.shape[1]] = basis
            first += basis.shape[1]

    def removed(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, P) features of all windows without their drift."""
        return np.asarray(features - self.terms @ (self.terms.T @ features), np.float32)


class FollowedDrift:
    """The drift of features that change while an encoder trains, known without a pass of its own.

    features: (N, P) of all windows as training begins. Every batch renews its own rows' share.
    """

    def __init__(
        self, drift: Drift, features: NDArray[np.float32], device: torch.device | str = "cpu"
    ) -> None:
        self._terms_NK = torch.tensor(drift.terms, device=device)
        self._features_NP = torch.tensor(features, device=device)
        self._share_KP = self._terms_NK.T @ self._features_NP

    def removed(self, rows: NDArray[np.int64], features_BP: Tensor) -> Tensor:
        """A batch's features (B, P) without drift; the drift itself carries no gradient."""
        terms_BK = self._terms_NK[rows]
        now_BP = features_BP.detach()
        self._share_KP += terms_BK.T @ (now_BP - self._features_NP[rows])
        self._features_NP[rows] = now_BP
        return features_BP - terms_BK @ self._share_KP

    def state(self) -> dict[str, Tensor]:
        """What following has changed, which no one can compute anew; nothing where no drift is taken out."""
        if not self._terms_NK.shape[1]:
            return {}
        return {"features": self._features_NP, "share": self._share_KP}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        for name, value in self.state().items():
            value.copy_(state[name])


def _basis(time_s: NDArray[np.float64], cleaning: Mapping[str, Any]) -> NDArray[np.float32]:
    """(T, K) orthonormal drift terms at these times."""
    place = (time_s - time_s[0]) / max(time_s[-1] - time_s[0], 1e-9)
    columns = []
    if cleaning["detrend"]:
        columns += [np.ones_like(place), place]
    if cleaning["high_pass_s"] is not None:
        # a cosine of order k has half k periods in the story (as in SPM and nilearn)
        orders = int(2 * (time_s[-1] - time_s[0]) / cleaning["high_pass_s"])
        columns += [np.ones_like(place), *(np.cos(np.pi * k * place) for k in range(1, orders + 1))]
    if not columns:
        return np.zeros((len(time_s), 0), np.float32)
    left, size, _ = np.linalg.svd(np.stack(columns, axis=1), full_matrices=False)
    return np.asarray(left[:, size > 1e-6 * size[0]], np.float32)
