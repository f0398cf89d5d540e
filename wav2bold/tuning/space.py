"""What a sweep may try, as one define-by-run function for Optuna."""

from dataclasses import dataclass
from typing import Any

import optuna

from wav2bold.config import Configuration, LayerRange, LogRange, ParameterType, Study

LAYERED = ("attention", "feed_forward", "layer_norm", "bias")
"""Parameter types that have a transformer layer."""


@dataclass(frozen=True)
class Proposals:
    """Asks Optuna for the parameters of one configuration; gives the task of a `WarmTrial`.

    Conditional where it must be: no layer range where nothing is unfrozen, no learning rates
    where nothing is adapted either. What the space doesn't vary is the study's own, adapters too. A
    class, not a closure, since Ray Tune saves its searcher with pickle.
    layers: transformer layers below what the head reads.  subjects: whom every trial refines jointly.
    """

    study: Study
    layers: int
    subjects: tuple[str, ...]

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        """{"task": ...} for trial number `trial.number`."""
        # Optuna learns from the nearest point of the space; the first trial itself is exact
        proposed = self._propose(trial)
        configuration = self.study.configuration if trial.number == 0 else proposed
        return {
            "task": {
                "number": trial.number,
                "configuration": configuration.model_dump(mode="json"),
                "subjects": list(self.subjects),
            }
        }

    def first_point(self) -> dict[str, Any]:
        """The point of the space nearest to the study's own configuration, which is the first trial."""
        space, own = self.study.search.space, self.study.configuration
        return {
            "history": min(max(own.history, space.history.low), space.history.high),
            "head_l2": _within(space.head_l2, own.head_l2),
            **{f"unfreeze_{kind}": kind in own.unfrozen for kind in self._kinds},
            "encoder_lr": _within(self.study.encoder_rates, own.encoder_lr),
            "head_lr": _within(space.head_lr, own.head_lr),
            "first_layer": 0,
            "layer_span": self.layers,
        }

    @property
    def _kinds(self) -> tuple[ParameterType, ...]:
        """Types that may be unfrozen: those of the space that aren't adapted and that the head can hear."""
        lora = self.study.configuration.lora
        adapted = () if lora is None else lora.targets
        unheard = LAYERED if self.layers == 0 else ()
        kinds = self.study.search.space.unfrozen
        return tuple(kind for kind in kinds if kind not in adapted and kind not in unheard)

    def _propose(self, trial: optuna.Trial) -> Configuration:
        space = self.study.search.space
        values: dict[str, Any] = self.study.configuration.model_dump()
        values["history"] = trial.suggest_int("history", space.history.low, space.history.high)
        values["head_l2"] = trial.suggest_float("head_l2", space.head_l2.low, space.head_l2.high, log=True)
        kinds = [kind for kind in self._kinds if trial.suggest_categorical(f"unfreeze_{kind}", [True, False])]
        unfrozen: dict[ParameterType, LayerRange | None] = dict.fromkeys(kinds)
        if not kinds and self.study.configuration.objective == "pretrain":
            unfrozen = dict(self.study.configuration.unfrozen)  # the head alone can't be pre-trained
        if unfrozen or self.study.configuration.lora is not None:
            for name, rates in (("encoder_lr", self.study.encoder_rates), ("head_lr", space.head_lr)):
                values[name] = trial.suggest_float(name, rates.low, rates.high, log=True)
        if any(kind in LAYERED for kind in kinds):
            first = trial.suggest_int("first_layer", 0, self.layers - 1)
            last = min(first + trial.suggest_int("layer_span", 1, self.layers), self.layers) - 1
            if (first, last) != (0, self.layers - 1):
                unfrozen = {kind: (first, last) if kind in LAYERED else None for kind in kinds}
        return Configuration.model_validate(values | {"unfrozen": unfrozen})


def _within(some: LogRange, value: float) -> float:
    """The value, or the end of the range that is nearest to it."""
    return min(max(value, some.low), some.high)
