"""Many copies of one model that learn at different rates, stacked and trained together."""

# R learning rates

from collections.abc import Mapping

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class StackedAdam:
    """Adam with a learning rate for each slice of parameters (R, ...), and gradients clipped slice by slice.

    torch.optim knows one rate a parameter; this takes the same steps as R optimisers of its kind, of the
    default settings, at a fraction of their time.  rates: (R,).  max_norm: of each slice's whole gradient.
    """

    def __init__(self, parameters: Mapping[str, Tensor], rates: Tensor, max_norm: float) -> None:
        self.parameters, self._rates, self._max_norm = parameters, rates, max_norm
        self.steps = 0
        self.first = {name: torch.zeros_like(value) for name, value in parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in parameters.items()}

    def step(self) -> None:
        """One update from the gradients that `backward` left, which are then forgotten.

        A slice whose gradient isn't finite stays as it is: at a rate of 0.1 some do not survive.
        """
        gradients = {name: value.grad for name, value in self.parameters.items() if value.grad is not None}
        norm_R = torch.stack([one.flatten(1).norm(dim=1) for one in gradients.values()]).norm(dim=0)
        share_R = (self._max_norm / (norm_R + 1e-6)).clamp(max=1)  # as clip_grad_norm_ has it
        finite_R = torch.isfinite(norm_R)
        self.steps += 1
        late, very_late = (1 - beta**self.steps for beta in BETAS)
        with torch.no_grad():
            for name, gradient in gradients.items():
                parameter = self.parameters[name]
                along = (-1, *[1] * (parameter.ndim - 1))
                gradient.mul_(share_R.view(along))
                if not bool(finite_R.all()):
                    gradient[~finite_R] = 0
                self.first[name].lerp_(gradient, 1 - BETAS[0])
                self.second[name].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
                size = (self.second[name] / very_late).sqrt_().add_(EPSILON)
                parameter.sub_(self._rates.view(along) / late * self.first[name] / size)
                parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """All that has changed, by name."""
        return {
            f"{kind}.{name}": value.detach()
            for kind, values in (("now", self.parameters), ("first", self.first), ("second", self.second))
            for name, value in values.items()
        }

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from what `state` gave after so many steps."""
        self.steps = steps
        with torch.no_grad():
            for kind, values in (("now", self.parameters), ("first", self.first), ("second", self.second)):
                for name, value in values.items():
                    value.copy_(state[f"{kind}.{name}"])
