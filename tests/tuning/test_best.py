"""The best trial is a finished one, and of equals the earlier."""

import math
from dataclasses import replace

import pytest
from made_up import findings

from wav2bold.tuning.best import winner_of
from wav2bold.tuning.remembered import Trial


@pytest.fixture
def trials() -> list[Trial]:
    return [replace(trial, status="FINISHED", best_score=0.1) for trial in findings().trials[:4]]


def test_the_highest_score_wins(trials: list[Trial]) -> None:
    trials[2] = replace(trials[2], best_score=0.3)
    assert winner_of(trials) is trials[2]


def test_of_equal_scores_the_earlier_trial_wins_in_whatever_order_they_come(trials: list[Trial]) -> None:
    assert winner_of(trials) is trials[0]
    assert winner_of(reversed(trials)) is trials[0]


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING", "SCHEDULED"])
def test_what_has_not_finished_can_not_win(trials: list[Trial], status: str) -> None:
    trials[1] = replace(trials[1], best_score=0.9, status=status)
    assert winner_of(trials) is trials[0]


def test_a_score_that_is_no_number_can_not_win(trials: list[Trial]) -> None:
    assert winner_of([replace(trial, best_score=math.nan) for trial in trials]) is None
    trials[0] = replace(trials[0], best_score=math.nan)
    assert winner_of(trials) is trials[1]


def test_nothing_has_no_winner() -> None:
    assert winner_of([]) is None
