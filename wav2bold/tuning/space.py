"""What a sweep may try, as one define-by-run function for Optuna."""

from collections.abc import Callable
from typing import Any

import optuna

from wav2bold.config import Configuration, LayerRange, ParameterType, Study

LAYERED = ("attention", "feed_forward", "layer_norm", "bias")
"""Parameter types that have a transformer layer."""


def define(study: Study, layers: int) -> Callable[[optuna.Trial], dict[str, Any]]:
    """A function that asks Optuna for one configuration's parameters and returns it as JSON.

    layers: transformer layers of the encoder. Conditional where it must be: no layer range and no
    encoder learning rate when nothing is unfrozen. What the space doesn't vary is the study's own.
    """
    space = study.search.space

    def ask(trial: optuna.Trial) -> dict[str, Any]:
        values: dict[str, Any] = study.configuration.model_dump()
        values["history"] = trial.suggest_int("history", space.history.low, space.history.high)
        values["head_l2"] = trial.suggest_float("head_l2", space.head_l2.low, space.head_l2.high, log=True)
        kinds = [kind for kind in space.unfrozen if trial.suggest_categorical(f"unfreeze_{kind}", [True, False])]
        unfrozen: dict[ParameterType, LayerRange | None] = dict.fromkeys(kinds)
        if kinds:
            values["encoder_lr"] = trial.suggest_float(
                "encoder_lr", space.encoder_lr.low, space.encoder_lr.high, log=True
            )
        if any(kind in LAYERED for kind in kinds):
            first = trial.suggest_int("first_layer", 0, layers - 1)
            last = min(first + trial.suggest_int("layer_span", 1, layers), layers) - 1
            if (first, last) != (0, layers - 1):
                unfrozen = {kind: (first, last) if kind in LAYERED else None for kind in kinds}
        configuration = Configuration.model_validate(values | {"unfrozen": unfrozen})
        if trial.number == 0:  # Optuna learns from the nearest point of the space, the trial is exact
            configuration = study.configuration
        return {"number": trial.number, "configuration": configuration.model_dump(mode="json")}

    return ask


def paper_point(study: Study, layers: int) -> dict[str, Any]:
    """The point of the space nearest to the study's own configuration, which is the first trial."""
    space, paper = study.search.space, study.configuration
    return {
        "history": min(max(paper.history, space.history.low), space.history.high),
        "head_l2": min(max(paper.head_l2, space.head_l2.low), space.head_l2.high),
        **{f"unfreeze_{kind}": kind in paper.unfrozen for kind in space.unfrozen},
        "encoder_lr": min(max(paper.encoder_lr, space.encoder_lr.low), space.encoder_lr.high),
        "first_layer": 0,
        "layer_span": layers,
    }
