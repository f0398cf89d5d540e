"""The report's section on how the search went."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from markupsafe import Markup

from wav2bold.config import SecondGoal
from wav2bold.pages.numbers import numbers
from wav2bold.report.findings import Findings
from wav2bold.report.methods import LITTLE
from wav2bold.report.parallel import parallel_coordinates
from wav2bold.report.search_pictures import front, importance_bars, optimisation
from wav2bold.report.tried import DRAWS, LEAST_TRIALS, MOST_DRAWN, importances, options_of_trials, scored
from wav2bold.tuning.best import amount_of, pareto
from wav2bold.tuning.goals import second_goal
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.trial_words import status


def search_section(findings: Findings) -> dict[str, Any]:
    """What search.html wants: scores by trial, importances, all trials as lines, and what betters all."""
    trials, study = findings.trials, findings.study
    known, found = scored(trials), importances(trials)
    goal = second_goal(study)
    two = study.search.sampler == "nsgaii" or study.search.second_goal is not None
    traded = front(trials, goal) if two else ""
    few = f"Importances need {LEAST_TRIALS} trials with scores that differ, in options that differ."
    pictures = {
        "optimisation": optimisation(trials),
        "importances": importance_bars(found),
        "parallel": parallel_coordinates(trials, findings.winner),
        "front": traded,
    }
    return {
        **{name: Markup(svg) for name, svg in pictures.items()},  # noqa: S704  # made by ourselves
        "shares": found,
        "mattered": numbers("importances", pd.DataFrame([asdict(one) for one in found])) if found else None,
        "tried": numbers("configurations", _tried(trials)),
        "known": f"{len(known):,}",
        "failures": sum(trial.status == "FAILED" for trial in trials),
        "draws": DRAWS,
        "drawn": min(len(known), MOST_DRAWN),
        "why": few,
        "goal": LITTLE[goal],
        "traded": numbers("trade-off", _traded(known, goal)) if traded else None,
        "front_size": len(pareto(known, goal)) if traded else 0,
    }


def _traded(known: Sequence[Trial], goal: SecondGoal) -> pd.DataFrame:
    """A row for each trial that counted both goals, and whether none betters it in both."""
    counted = [one for one in known if math.isfinite(amount_of(one, goal))]
    best = {one.number for one in pareto(known, goal)}
    return pd.DataFrame(
        {
            "trial": [one.number for one in counted],
            "score": [one.best_score for one in counted],
            goal: [amount_of(one, goal) for one in counted],
            "bettered_by_none": ["yes" if one.number in best else "no" for one in counted],
        }
    )


def _tried(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row for each trial: how it ended, its score, and all that the sweep varied."""
    ended = {
        "trial": [one.number for one in trials],
        "status": [status(one) for one in trials],
        "score": [one.best_score for one in trials],
    }
    return pd.DataFrame(ended | options_of_trials(trials))
