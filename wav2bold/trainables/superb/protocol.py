"""What all of SUPERB's tasks share: how a task is set up, and what comes of one."""

# SUPERB: https://arxiv.org/abs/2105.01051; numbers are those of its reference implementation, s3prl

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.trainables.superb.statistic import STATISTICS

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""Learning rates among which each task's is chosen on its dev set."""


RESULT = "result.json"
"""Name of a score's file."""


@dataclass(frozen=True)
class Published:
    """How the reference trains a task. every: updates between two looks at the dev set.

    updates: of a task without a head 0; its hidden state is chosen on dev, not a rate.  statistic: of what
    test utterances gave, by name (see `STATISTICS`).  settings: names of what is chosen on dev beside the
    learning rate.  by_test: what the reference chooses on the test set; "" for nothing.
    """

    metric: str
    updates: int
    every: int
    batch: int = 32
    higher_is_better: bool = True
    statistic: str = "share"
    settings: tuple[str, ...] = ()
    by_test: str = ""


@dataclass(frozen=True)
class Options:
    """What is said for all tasks and encoders.

    updates: of the head; None for as many as published.  rates: to choose from, as published or fewer.
    crops: fixed stretches of each of sid's training files.  normalize_wav: whether encoders hear normalised
    sound; None for each as it is.  as_published: whether asv and sd choose on the test set, as the reference.
    """

    updates: int | None = None
    rates: tuple[float, ...] = RATES
    seed: int = 0
    crops: int = 4
    normalize_wav: bool | None = None
    as_published: bool = False

    def length(self, published: Published) -> tuple[int, int]:
        """Updates, and updates between two looks at the dev set: at least 10 looks."""
        updates = self.updates or published.updates
        return updates, max(min(published.every, updates // 10), 1)

    def chooses_on_test(self, published: Published) -> bool:
        """Whether a task's score is the best of several on its own test set."""
        return self.as_published and bool(published.by_test)

    def deviations(self, published: Published) -> dict[str, str]:
        """What is told below a score, by name: what is not as published, or chosen on the test set."""
        found: dict[str, str] = {}
        if not published.updates:
            return found
        updates, _ = self.length(published)
        if updates != published.updates:
            found["updates"] = f"{updates:,} of {published.updates:,}"
        if self.rates != RATES:
            found["rates"] = ", ".join(f"{rate:g}" for rate in self.rates)
        if self.chooses_on_test(published):
            found["as published"] = f"{published.by_test} chosen on the test set"
        return found


@dataclass(frozen=True)
class Score:
    """What one encoder reached in one task, by test utterance.

    The task's score is that statistic (see `STATISTICS`) of `parts` and `wholes`, mean over folds: as a rule
    sum by sum, right answers by answers, or wrong words by words.  parts, wholes, unit, fold: (N,) of each
    test utterance; unit: what is drawn together where intervals are drawn, the utterance or its speaker;
    (N, 2) for the two speakers of asv's trials.
    rates: chosen on dev, of each fold; none where a hidden state was.  dev: by fold, then by rate or number
    of the state, best dev score; NaN where there is none.  weights: (L,) of the featurizer, mean over folds.
    lengths: (L,) mean length of a hidden state's vectors.  settings: what else was chosen on dev, by name.
    beside: the same heads and utterances by another metric.
    """

    task: str
    metric: str
    higher_is_better: bool
    parts: NDArray[np.float64]
    wholes: NDArray[np.float64]
    unit: NDArray[np.str_]
    fold: NDArray[np.int64]
    rates: tuple[float, ...]
    dev: tuple[Mapping[float, float], ...]
    weights: NDArray[np.float64]
    lengths: NDArray[np.float64]
    deviations: Mapping[str, str] = field(default_factory=dict)
    statistic: str = "share"
    settings: Mapping[str, float] = field(default_factory=dict)
    beside: tuple["Score", ...] = ()

    @property
    def value(self) -> float:
        """The task's score."""
        folds = [self.fold == fold for fold in np.unique(self.fold)]
        once = [np.ones((1, len(np.unique(self.unit[rows]))), np.float32) for rows in folds]
        return float(np.mean([self.drawn(rows, one) for rows, one in zip(folds, once, strict=True)]))

    def drawn(self, rows: NDArray[np.bool_], counts_RU: NDArray[np.float32]) -> NDArray[np.float64]:
        """The statistic of some rows in each of R draws, (R,).

        counts_RU: how often each draw takes each of the rows' units, these in the order of their names.
        """
        _, unit = np.unique(self.unit[rows], return_inverse=True)
        numbers = unit.reshape(self.unit[rows].shape).astype(np.int64)
        return STATISTICS[self.statistic](self.parts[rows], self.wholes[rows], numbers, counts_RU)

    @property
    def chosen(self) -> str:
        """What was chosen on dev: learning rates, each once, or a hidden state."""
        if not self.rates:
            return f"state {int(self.weights.argmax())}"
        return " ".join(dict.fromkeys(f"{rate:g}" for rate in self.rates))

    @property
    def shares(self) -> NDArray[np.float64]:
        """(L,) weight times mean length of each hidden state, as a share of all: what it adds to the sum."""
        added = self.weights * self.lengths
        return np.asarray(added / added.sum())

    def to_json(self) -> dict[str, Any]:
        """All of it as what JSON has; a number that there isn't is null."""
        return {
            "task": self.task,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "value": self.value,
            "rates": list(self.rates),
            "dev": [{f"{rate:g}": _number(score) for rate, score in one.items()} for one in self.dev],
            "weights": self.weights.tolist(),
            "lengths": self.lengths.tolist(),
            "deviations": dict(self.deviations),
            "statistic": self.statistic,
            "settings": dict(self.settings),
            "beside": [other.to_json() for other in self.beside],
            "utterances": {
                "part": self.parts.tolist(),
                "whole": self.wholes.tolist(),
                "unit": self.unit.tolist(),
                "fold": self.fold.tolist(),
            },
        }


def score_from(told: Mapping[str, Any]) -> Score:
    """The score that `Score.to_json` told."""
    utterances = told["utterances"]
    return Score(
        task=told["task"],
        metric=told["metric"],
        higher_is_better=told["higher_is_better"],
        parts=np.array(utterances["part"], np.float64),
        wholes=np.array(utterances["whole"], np.float64),
        unit=np.array(utterances["unit"], np.str_),
        fold=np.array(utterances["fold"], np.int64),
        rates=tuple(told["rates"]),
        dev=tuple(
            {float(rate): math.nan if score is None else score for rate, score in one.items()}
            for one in told["dev"]
        ),
        weights=np.array(told["weights"]),
        lengths=np.array(told["lengths"]),
        deviations=dict(told["deviations"]),
        statistic=told["statistic"],
        settings=dict(told["settings"]),
        beside=tuple(map(score_from, told["beside"])),
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
