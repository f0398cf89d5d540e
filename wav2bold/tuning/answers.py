"""Who answers for the parameters of a trial: a sampler of Optuna, or a configuration that is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


class Asked(Protocol):
    """Who answers for the parameters of one trial: Optuna, or `Answers`."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class OutsideError(Exception):
    """A configuration doesn't lie in the space."""


@dataclass
class Answers:
    """Answers with given values, and notes what was asked for.

    nearest: whether a value outside its range becomes the nearest one; else OutsideError is raised.
    """

    values: Mapping[str, Any]
    nearest: bool = True
    params: dict[str, Any] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._note(name, IntDistribution(low, high, log), min(max(self.values[name], low), high)))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        near = min(max(self.values[name], low), high)
        return float(self._note(name, FloatDistribution(low, high, log), near))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        near = self.values[name] if self.values[name] in choices else choices[0]
        return self._note(name, CategoricalDistribution(choices), near)

    def _note(self, name: str, distribution: BaseDistribution, near: Any) -> Any:
        if near != self.values[name] and not self.nearest:
            raise OutsideError(name)
        self.params[name], self.distributions[name] = near, distribution
        return near
