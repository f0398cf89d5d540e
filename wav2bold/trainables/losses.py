"""What stage 2 makes small: how far predictions are from BOLD."""

# B volumes, V targets

from collections.abc import Sequence

import torch
from torch import Tensor

FEWEST_TARGETS = 3
"""Of which a correlation across targets says anything."""
SMALLEST = 1e-12
"""Size of a prediction that does not vary, which then has a correlation of 0."""


def squared_error(error_BV: Tensor, weight_V: Tensor | None = None) -> Tensor:
    """Sum of squared errors, 0 where nothing was measured. weight_V: how much each target counts."""
    squared = error_BV**2 if weight_V is None else error_BV**2 * weight_V
    return squared.sum()


def dissimilarity(
    predicted_BV: Tensor, y_BV: Tensor, measured_BV: Tensor, people: Sequence[Tensor], *, centred: bool
) -> Tensor:
    """Sum over volumes and people of 1 - Pearson r across the person's targets within the volume.

    people: which targets are whose.  centred: False for the cosine in place of r. Volumes of a person of
    whom fewer than three targets were measured count nothing.
    """
    total = predicted_BV.new_zeros(())
    for columns in people:
        there = measured_BV[:, columns]
        told, y = (torch.where(there, some[:, columns], 0.0) for some in (predicted_BV, y_BV))
        count = there.sum(1, keepdim=True)
        if centred:
            told, y = (
                torch.where(there, some - some.sum(1, keepdim=True) / count.clamp(min=1), 0.0)
                for some in (told, y)
            )
        size = (told.square().sum(1) * y.square().sum(1)).clamp(min=SMALLEST).sqrt()
        unlike = 1 - (told * y).sum(1) / size
        total = total + torch.where(count[:, 0] >= FEWEST_TARGETS, unlike, 0.0).sum()
    return total
