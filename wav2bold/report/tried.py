"""What the trials of a sweep varied, and how much each of it mattered: from MLflow's runs alone."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from wav2bold.config import PARAMETER_TYPES, Configuration
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.space import LAYERED, said
from wav2bold.tuning.trial_words import KINDS

Value = bool | int | float | str | None
TOP = "top"
"""The highest layer of a range that has no end: whichever that is."""
LEAST_TRIALS = 10
"""With a score, for importances: a forest of fewer says nothing."""
DRAWS, TREES = 8, 4
"""Bootstrap draws of the trials, and trees of the forest that is grown on each."""
MOST_DRAWN = 250
"""Trials in a draw: of 1,000 each the analysis would take half a minute."""
LOGARITHMIC = ("head penalty", "encoder rate", "head rate", "anchor", "weight decay", "adapters' rank")


@dataclass(frozen=True)
class Importance:
    """Share of the scores' variance that an option by itself explains.

    value: median over bootstrap draws of the trials.  low, high: the least and the largest of them.
    """

    option: str
    value: float
    low: float
    high: float


def options_of_trials(trials: Sequence[Trial]) -> dict[str, list[Value]]:
    """Each option of which trials had several values, with one for each trial; None where it had no part.

    Layers are those of all types together: the lowest and, one after it, the highest that is trained.
    """
    rows = [_options(trial.configuration) for trial in trials]
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return {name: values for name, values in columns.items() if len(set(values) - {None}) > 1}


def scored(trials: Sequence[Trial]) -> list[Trial]:
    """Trials whose scores can be compared: finished, and of all their subjects."""
    return [
        trial
        for trial in trials
        if trial.status == "FINISHED" and trial.is_whole and math.isfinite(trial.best_score)
    ]


def importances(trials: Sequence[Trial], seed: int = 0) -> list[Importance]:
    """What each option mattered for the score, the most important first; empty if too few trials have one.

    Functional analysis of variance of a random forest (Hutter et al. 2014), as Optuna does it, main effects
    alone: what only several options together explain is nobody's. A trial in which an option had no part
    counts with the lowest value of it. Trials that were stopped early count with the score that they had.
    """
    known = scored(trials)
    options = options_of_trials(known)
    scores = [trial.best_score for trial in known]
    if len(known) < LEAST_TRIALS or not options or len(set(scores)) < 2:
        return []
    filled = {name: _filled(values) for name, values in options.items()}
    distributions = {name: _distribution(name, values) for name, values in filled.items()}
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in options}
    for draw in range(DRAWS):
        rows = random.integers(len(known), size=min(len(known), MOST_DRAWN)).tolist()
        if len({scores[row] for row in rows}) < 2:
            continue
        points = [{name: filled[name][row] for name in options} for row in rows]
        found = _fanova(points, [scores[row] for row in rows], distributions, seed + draw)
        for name in options:
            drawn[name].append(found.get(name, 0.0))
    told = [
        Importance(name, float(np.median(values)), min(values), max(values))
        for name, values in drawn.items()
        if values
    ]
    return sorted(told, key=lambda one: -one.value)


def levels(values: Sequence[Value]) -> list[Value]:
    """The distinct values of an option in their order: None, no, yes, numbers, words."""
    return sorted(set(values), key=lambda one: (one is not None, isinstance(one, str), one or 0))


def is_number(value: Value) -> bool:
    """Whether a value is one of many on a line."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _filled(values: Sequence[Value]) -> list[Value]:
    """Without None, and numbers all where they can be: what Optuna takes."""
    numbers = [value for value in values if is_number(value)]
    if not numbers:
        return ["none" if value is None else value for value in values]
    highest = max(float(value) for value in numbers if not isinstance(value, str | None)) + 1
    low = min(numbers, key=lambda one: float(one or 0))
    return [low if value is None else round(highest) if value == TOP else value for value in values]


def _distribution(name: str, values: Sequence[Value]) -> BaseDistribution:
    """The range in which the values lie."""
    numbers = [float(value) for value in values if is_number(value) and not isinstance(value, str | None)]
    if len(numbers) < len(values):
        return CategoricalDistribution(levels(values))
    low, high = min(numbers), max(numbers)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=name in LOGARITHMIC and low > 0)


def _fanova(
    points: Sequence[Mapping[str, Value]],
    scores: Sequence[float],
    distributions: Mapping[str, BaseDistribution],
    seed: int,
) -> dict[str, float]:
    """Shares of variance that do not add up to 1, by option."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # of each study that is made
        try:
            study = optuna.create_study(direction="maximize")
            study.add_trials(
                optuna.trial.create_trial(params=dict(point), distributions=dict(distributions), value=value)
                for point, value in zip(points, scores, strict=True)
            )
            evaluator = FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
            found = get_param_importances(study, evaluator=evaluator, normalize=False)
        finally:
            optuna.logging.set_verbosity(level)
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _options(chosen: Configuration) -> dict[str, Value]:
    """Whatever a search may vary, by the name that a reader knows."""
    refines = chosen.refines

    def of_stage2(value: Value) -> Value:
        return value if refines else None

    spans = [span for kind, span in chosen.unfrozen.items() if kind in LAYERED]
    bounded = [span for span in spans if span is not None]
    every = not bounded or len(bounded) < len(spans)
    values: dict[str, Value] = {
        "history": chosen.history,
        "pooling": chosen.pooling,
        "hidden states": said(chosen.layers),
        "head penalty": chosen.head_l2,
    }
    values |= {KINDS[kind]: kind in chosen.unfrozen for kind in PARAMETER_TYPES}
    return values | {
        "lowest layer": None if not spans else 0 if every else min(first for first, _ in bounded),
        "highest layer": None if not spans else TOP if every else max(last for _, last in bounded),
        "adapters' rank": None if chosen.lora is None else chosen.lora.rank,
        "encoder rate": of_stage2(chosen.encoder_lr),
        "head rate": of_stage2(chosen.head_lr),
        "anchor": of_stage2(chosen.anchor_l2),
        "weight decay": of_stage2(chosen.weight_decay),
        "epochs": of_stage2(chosen.epochs),
    }
