"""The head of ks, ic, sid and er at many learning rates at once, on hidden states' means over time."""

# R learning rates, B clips, L hidden states, D features, P projected, C classes of all slots, S slots
# The reference projects every frame and then takes the mean. Both are linear, so the mean can come first.

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

PROJECTED = 256


def beginning(
    layers: int, features: int, classes: int, rates: int, seed: int, device: torch.device
) -> dict[str, Tensor]:
    """Parameters (R, ...) by name, equal for all rates, as nn.Linear begins them; they take gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        project, classify = nn.Linear(features, PROJECTED), nn.Linear(PROJECTED, classes)
    one = {
        "layers": torch.zeros(layers),
        "project.weight": project.weight.detach().T,
        "project.bias": project.bias.detach(),
        "classify.weight": classify.weight.detach().T,
        "classify.bias": classify.bias.detach(),
    }
    return {
        name: value.expand(rates, *value.shape)
        .clone(memory_format=torch.contiguous_format)
        .to(device)
        .requires_grad_()
        for name, value in one.items()
    }


def answers(parameters: Mapping[str, Tensor], means_BLD: Tensor) -> Tensor:
    """Logits (R, B, C). The featurizer is a weighted sum, its weights a softmax."""
    weights_RL = parameters["layers"].softmax(1)
    clips, layers, features = means_BLD.shape
    summed = weights_RL @ means_BLD.transpose(0, 1).reshape(layers, -1)
    summed_RBD = summed.view(-1, clips, features)
    hidden_RBP = torch.baddbmm(parameters["project.bias"][:, None], summed_RBD, parameters["project.weight"])
    return torch.baddbmm(parameters["classify.bias"][:, None], hidden_RBP, parameters["classify.weight"])


def losses(logits_RBC: Tensor, labels_BS: Tensor, classes: Sequence[int]) -> Tensor:
    """Cross-entropy, mean over clips and summed over slots, (R,)."""
    found = logits_RBC.new_zeros(len(logits_RBC))
    for slot, own_RBC in enumerate(logits_RBC.split(list(classes), dim=2)):
        labels = labels_BS[:, slot].expand(len(logits_RBC), -1)
        found = found + nn.functional.cross_entropy(
            own_RBC.transpose(1, 2), labels, reduction="none", ignore_index=-1
        ).mean(1)
    return found


def right(logits_RBC: Tensor, labels_BS: Tensor, classes: Sequence[int]) -> Tensor:
    """Whether the answers in all slots are right, (R, B)."""
    told_RBS = torch.stack([own.argmax(2) for own in logits_RBC.split(list(classes), dim=2)], dim=2)
    return (told_RBS == labels_BS).all(2)
