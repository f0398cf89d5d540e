"""What moves the parameters of stage 2."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wav2bold.errors import UserError

ADAPTER = "lora_"
"""In the names that peft gives to its factors, of which one begins at 0."""
SMALLEST_SCALE = 0.01
"""Root mean square of a vector, at least: biases that begin at 0 must be able to move."""


def optimisers_of(
    encoder: Sequence[tuple[str, Tensor]],
    head: Sequence[Tensor],
    *,
    kind: str,
    encoder_lr: float,
    head_lr: float,
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the encoder's matrices and AdamW for the rest, adapters among it.

    encoder: name and value of each parameter.
    encoder_lr: for AdamW as it is. For Muon the share of a matrix's own size (Frobenius norm) that a step
    changes, since the best rate was found to go with it; vectors then get that share of theirs by AdamW.
    Raises UserError if this torch has no Muon.
    """
    fused = True if any(each.is_cuda for each in head) else None
    values = [each for _, each in encoder]
    groups: list[dict[str, Any]] = [{"params": list(head), "lr": head_lr, "weight_decay": 0.0}]
    if kind == "adamw":
        groups.insert(0, {"params": values, "lr": encoder_lr, "weight_decay": weight_decay})
        return [torch.optim.AdamW(groups, fused=fused)]
    if not hasattr(torch.optim, "Muon"):
        raise UserError(f"torch {torch.__version__} has no Muon", "install torch 2.9 or later, or take adamw")
    matrices = []
    for name, each in encoder:
        if each.ndim == 2 and ADAPTER not in name:
            matrices.append(each)
            continue
        size = max(float(each.detach().square().mean().sqrt()), SMALLEST_SCALE)
        groups.append({"params": [each], "lr": encoder_lr * size, "weight_decay": weight_decay})
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, fused=fused)]
    if matrices:
        muon = [
            {"params": [each], "lr": encoder_lr * _matrix_scale(each), "weight_decay": weight_decay}
            for each in matrices
        ]
        found.append(torch.optim.Muon(muon, momentum=0.95, nesterov=True, ns_steps=5))
    return found


def state_of(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of its parameters' gradients: by number of the parameter and kind."""
    return {
        f"{number}.{kind}": value
        for number, kinds in optimiser.state_dict()["state"].items()
        for kind, value in kinds.items()
    }


def restore(optimiser: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Let an optimiser remember what `state_of` gave; its rates and options stay its own."""
    kinds: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, value in state.items():
        number, _, kind = name.partition(".")
        kinds[int(number)][kind] = value
    optimiser.load_state_dict({"state": kinds, "param_groups": optimiser.state_dict()["param_groups"]})


def _matrix_scale(matrix: Tensor) -> float:
    """What makes an orthogonal update, as torch scales it, as large as the matrix itself."""
    rows, columns = matrix.shape
    size = float(matrix.detach().square().sum().sqrt())
    return max(size, SMALLEST_SCALE) / (math.sqrt(min(rows, columns)) * math.sqrt(max(1, rows / columns)))


def warmup_cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the highest learning rate at a step: a straight rise, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1.0)))
