"""Stage 1 the paper's own way: the head's penalised least squares, descended by Adam instead of solved."""

# N rows, P features, V targets

import numpy as np
import torch
from numpy.typing import NDArray

from wav2bold.trainables.ridge import Head, standardised


def fit_by_adam(
    features: NDArray[np.float32],
    y: NDArray[np.float32],
    alpha: NDArray[np.float32],
    steps: int,
    lr: float,
    seed: int,
) -> Head:
    """The head whose mean over measured volumes of squared error + alpha |w|^2 / volumes Adam makes small.

    features: (N, P).  y: (N, V), NaN where a subject lacks the volume.  alpha: (V,) penalty of each target,
    such as ridge chose.  steps: passes over all rows.  lr: Adam's rate at first; a cosine brings it to zero,
    for at a constant rate Adam never rests.  seed: of the first weights, drawn as for torch's linear layer;
    the first bias is the target's mean. Ridge is the minimum of the same objective, target by target.
    A constant target gets what ridge gives it.
    """
    mean, sd, standard = standardised(features)
    x_NP = torch.from_numpy(standard)
    measured_NV = torch.from_numpy(np.isfinite(y))
    y_NV = torch.from_numpy(np.nan_to_num(np.asarray(y, np.float32)))
    volumes_V = measured_NV.sum(0).clamp(min=1)
    alpha_V = torch.from_numpy(np.asarray(alpha, np.float32))
    level_V = y_NV.sum(0, dtype=torch.float64) / volumes_V
    constant_V = ~(measured_NV & (y_NV != level_V)).any(0)

    bound = x_NP.shape[1] ** -0.5
    weight_PV = torch.empty(x_NP.shape[1], y_NV.shape[1])
    weight_PV.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    bias_V = level_V.float().requires_grad_()
    optimiser = torch.optim.Adam([weight_PV, bias_V], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        error_NV = torch.where(measured_NV, x_NP @ weight_PV + bias_V - y_NV, 0.0)
        objective_V = (error_NV**2).sum(0) + alpha_V * (weight_PV**2).sum(0)
        optimiser.zero_grad()
        (objective_V / volumes_V).mean().backward()
        optimiser.step()
        schedule.step()
    weight_PV, bias_V = weight_PV.detach(), bias_V.detach()
    return Head(
        mean,
        sd,
        torch.where(constant_V, 0.0, weight_PV).numpy(),
        torch.where(constant_V, level_V, bias_V).float().numpy(),
        torch.where(constant_V, 0.0, alpha_V).numpy(),
    )
