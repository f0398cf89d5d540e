"""What a sweep wants of a configuration, a high brain score and maybe more, and how a trial did by that."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wav2bold.config import Configuration, Reduction, SecondGoal, Study

REDUCTIONS: dict[Reduction, Callable[[Sequence[float]], float]] = {
    "mean": lambda scores: float(np.mean(scores)),
    "median": lambda scores: float(np.median(scores)),
    "min": lambda scores: float(np.min(scores)),
}
"""What one score is made of several subjects' by; NaN if one of them has none."""


@dataclass(frozen=True)
class Ended:
    """How a trial ended.

    score: NaN if it failed.  drift: as in `Report`, NaN if nobody measured it.
    subjects: after how many it was stopped, if that was before the last, whose score it lacks; else None.
    """

    score: float
    configuration: Configuration
    drift: float = math.nan
    subjects: int | None = None


def second_goal(study: Study) -> SecondGoal:
    """What a trial should have little of, beside a high score."""
    return study.search.second_goal or "trained_parameters"


def goals_of(study: Study, trial: Ended, trained: Callable[[Configuration], int | None]) -> list[float]:
    """A trial's score and what it has of the second goal; NaN for what there is not.

    trained: how many parameters a configuration trains.
    """
    if second_goal(study) == "drift":
        return [trial.score, trial.drift]
    count = trained(trial.configuration)
    return [trial.score, math.nan if count is None else count]
