"""The head while it is trained, and the loss that it is trained on."""

# B windows, P head features, V targets

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import LossKind
from wav2bold.trainables.convolution import convolved, folded
from wav2bold.trainables.losses import FEWEST_TARGETS, dissimilarity, squared_error
from wav2bold.trainables.noise import Clock, Group, NoiseModel, groups_of, whitener
from wav2bold.trainables.reduced import Factors
from wav2bold.trainables.ridge import Head


class TorchHead:
    """A head whose weights move; the features' mean and spread stay those of stage 1.

    factors: of its weight, if those are to move in its place.
    kernel: of the convolution before it, as `first_kernel` gives it; None if there is none.
    """

    def __init__(
        self,
        head: Head,
        device: torch.device,
        factors: Factors | None = None,
        kernel: NDArray[np.float32] | None = None,
    ) -> None:
        self._head, self._convolves = head, kernel is not None
        self._mean, self._sd, self._alpha = (
            torch.tensor(part, device=device) for part in (head.mean, head.sd, head.alpha)
        )
        before = () if kernel is None else (kernel,)
        self.parameters = [
            torch.tensor(part, device=device, requires_grad=True)
            for part in (*before, *(factors or (head.weight,)), head.bias)
        ]

    @property
    def beside(self) -> list[Tensor]:
        """Those parameters that can't be told from `head`; none where it is weight and bias alone."""
        *maps, _ = self.parameters
        return maps if len(maps) > 1 else []

    def __call__(self, features_BP: Tensor) -> Tensor:
        """(B, V) predictions."""
        standard = (features_BP - self._mean) / self._sd
        *shared, weight, bias = self.parameters
        if self._convolves:
            kernel, *shared = shared
            standard = convolved(standard, kernel)
        for factor in shared:
            standard = standard @ factor
        return torch.addmm(bias, standard, weight)

    def penalty(self) -> Tensor:
        """Sum over targets of alpha * |w|^2: over the measured values it is stage 1's own penalty.

        w: from features to target, whatever it is made of.
        """
        *shared, weight = self._maps()
        # of a product, |A b|^2 = b' A'A b, where A'A is small
        other = shared[0].T @ shared[0] @ weight if shared else weight
        return (self._alpha * (weight * other).sum(0)).sum()

    def head(self) -> Head:
        """The head as it is now."""
        with torch.no_grad():
            *factors, bias = (part.cpu().numpy().copy() for part in (*self._maps(), self.parameters[-1]))
        weight = factors[0] if len(factors) == 1 else factors[0] @ factors[1]
        return Head(self._head.mean, self._head.sd, weight, bias, self._head.alpha)

    def _maps(self) -> list[Tensor]:
        """One or two matrices, whose product is the head's weight."""
        *maps, _ = self.parameters
        if not self._convolves:
            return maps
        kernel, first, *others = maps
        return [folded(first, kernel), *others]


@dataclass(frozen=True)
class Criterion:
    """What predictions of some windows' BOLD cost.

    y: (N, V), NaN where not measured.  people: (V,) whose each target is.  weight: (V,) or None.
    """

    y: NDArray[np.float32]
    people: NDArray[np.str_]
    clock: Clock
    noise: NoiseModel
    kind: LossKind
    weight: NDArray[np.float32] | None
    device: torch.device

    def count(self, blocks: Sequence[NDArray[np.int64]]) -> int:
        """By how much to divide the sum of the `total` of these blocks for a mean."""
        return int(self._counts[np.concatenate(list(blocks))].sum())

    def total(self, blocks: Sequence[NDArray[np.int64]], predicted_BV: Tensor) -> Tensor:
        """Sum of what these predictions cost; the rows are those of the blocks, one after the other.

        predicted_BV: or of one person's targets, where all share them.
        """
        y_BV = self._y(np.concatenate(list(blocks)))
        predicted_BV = predicted_BV.repeat(1, y_BV.shape[1] // predicted_BV.shape[1])
        measured_BV = torch.isfinite(y_BV)
        y_BV = torch.nan_to_num(y_BV)
        if self.kind == "mse":
            error_BV = self._white(blocks, torch.where(measured_BV, predicted_BV - y_BV, 0.0))
            return squared_error(error_BV, self._weights)
        predicted_BV = torch.where(measured_BV, predicted_BV, 0.0)
        return dissimilarity(
            self._white(blocks, predicted_BV),
            self._white(blocks, y_BV),
            measured_BV,
            self._columns_of,
            centred=self.kind == "corr",
        )

    def _y(self, rows: NDArray[np.int64]) -> Tensor:
        return self._targets[torch.from_numpy(rows).to(self.device)]

    def _white(self, blocks: Sequence[NDArray[np.int64]], some_BV: Tensor) -> Tensor:
        """Every block's values (B, V), 0 where not measured, multiplied by what makes its noise white."""
        if self.noise.is_white:
            return some_BV
        pieces = []
        for measured, columns in zip(self._measured, self._group_columns, strict=True):
            values = some_BV if len(self._groups) == 1 else some_BV[:, columns]
            every: Tensor = torch.block_diag(*(self._whitener(rows, measured) for rows in blocks))
            pieces.append(every @ values)
        if len(pieces) == 1:
            return pieces[0]
        return torch.cat(pieces, dim=1)[:, self._in_order]

    def _whitener(self, rows: NDArray[np.int64], measured: NDArray[np.bool_]) -> Tensor:
        """(B, B) of one block; rows and columns of volumes that these targets lack are 0."""
        there = measured[rows]
        lags = np.round(self.clock.time_tr[rows] - self.clock.time_tr[rows[0]], 2)
        key = (there.tobytes(), lags.tobytes())
        if key not in self._whiteners:
            full = np.zeros((len(rows), len(rows)), np.float32)
            if there.any():
                full[np.ix_(there, there)] = whitener(self.noise, self.clock.time_tr[rows[there]])
            self._whiteners[key] = torch.from_numpy(full).to(self.device)
        return self._whiteners[key]

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """(N,) of every row, what it adds to `count`; here, since asking the device would stall it."""
        measured = np.isfinite(self.y)
        if self.kind == "mse":
            return np.asarray(measured.sum(1))
        people = [self.people == one for one in dict.fromkeys(self.people)]
        enough = [measured[:, columns].sum(1) >= FEWEST_TARGETS for columns in people]
        return np.asarray(np.sum(enough, axis=0))

    @cached_property
    def _whiteners(self) -> dict[tuple[bytes, bytes], Tensor]:
        return {}

    @cached_property
    def _groups(self) -> tuple[Group, ...]:
        return groups_of(self.y, self.clock.story)

    @cached_property
    def _measured(self) -> list[NDArray[np.bool_]]:
        """Of each group, (N,) whether it was measured."""
        return [np.isin(np.arange(len(self.y)), group.rows) for group in self._groups]

    @cached_property
    def _group_columns(self) -> list[Tensor]:
        return [torch.from_numpy(group.columns).to(self.device) for group in self._groups]

    @cached_property
    def _in_order(self) -> Tensor:
        """(V,) where each target stands when those of the groups are side by side."""
        return torch.argsort(torch.cat(self._group_columns))

    @cached_property
    def _columns_of(self) -> list[Tensor]:
        """Of each person, which targets."""
        return [
            torch.from_numpy(np.flatnonzero(self.people == one)).to(self.device)
            for one in dict.fromkeys(self.people)
        ]

    @cached_property
    def _targets(self) -> Tensor:
        return torch.from_numpy(self.y).to(self.device)

    @cached_property
    def _weights(self) -> Tensor | None:
        return None if self.weight is None else torch.from_numpy(self.weight).to(self.device)
