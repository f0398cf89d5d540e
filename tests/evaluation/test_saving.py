"""The factor by which scanning time is saved is the one that two curves are apart."""

import math

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from wav2bold.evaluation.saving import saving

MINUTES = np.array([2.0, 4.0, 8.0, 16.0, 32.0])


def curve(minutes: np.ndarray, worth: float = 1.0) -> np.ndarray:
    """A score that is a line in the logarithm of minutes, each of which is worth so many."""
    return 0.1 + 0.05 * np.log(worth * minutes)


def drawn(values: np.ndarray, random: np.random.Generator, sd: float, draws: int = 400) -> np.ndarray:
    return values + sd * random.standard_normal((draws, len(values)))


@pytest.mark.parametrize("factor", [1.0, 1.5, 5.0, 7.99, 0.4])
def test_minutes_that_are_worth_five_save_five_times(factor: float) -> None:
    before, after = curve(MINUTES), curve(MINUTES, factor)
    found = saving(MINUTES, before, after, before[None].repeat(50, 0), after[None].repeat(50, 0))
    assert found.factor == pytest.approx(factor)
    assert (found.low, found.high) == pytest.approx((factor, factor))
    assert found.score == pytest.approx(min(before[-1], after[-1]))
    assert not found.at_least
    assert not found.at_most


def test_who_is_better_is_told_the_other_way_round() -> None:
    random = np.random.default_rng(0)
    one, other = curve(MINUTES), curve(MINUTES, 3) + 0.01 * random.standard_normal(5)
    draws = [drawn(values, random, 0.01) for values in (one, other)]
    there, back = saving(MINUTES, one, other, *draws), saving(MINUTES, other, one, *draws[::-1])
    assert there.factor == pytest.approx(1 / back.factor)
    assert there.low == pytest.approx(1 / back.high)


def test_a_curve_that_is_above_from_the_beginning_saves_at_least_what_was_measured() -> None:
    before, after = curve(MINUTES), curve(MINUTES, 100)
    found = saving(MINUTES, before, after, before[None].repeat(50, 0), after[None].repeat(50, 0))
    assert (found.factor, found.at_least) == (pytest.approx(16), True)
    assert (found.low, found.high) == (pytest.approx(16), math.inf)
    back = saving(MINUTES, after, before, after[None].repeat(50, 0), before[None].repeat(50, 0))
    assert (back.factor, back.at_most, back.low, back.high) == (
        pytest.approx(1 / 16),
        True,
        0,
        pytest.approx(1 / 16),
    )


def test_curves_that_never_rise_have_no_factor() -> None:
    flat = np.full(5, 0.2)
    found = saving(MINUTES, flat, flat, flat[None].repeat(9, 0), flat[None].repeat(9, 0))
    assert math.isnan(found.factor)
    assert (found.low, found.high) == (0, math.inf)


def test_a_dip_by_chance_does_not_take_back_what_was_learnt() -> None:
    """The two budgets that are out of order count as their mean, as scikit-learn has it."""
    dipping = curve(MINUTES) + np.array([0, 0, 0.03, -0.03, 0])
    rising = IsotonicRegression().fit_transform(np.arange(5), dipping)
    level = np.array([0.02, 0.05, 0.09, 0.14, rising[2]])
    found = saving(MINUTES, dipping, level, level[None], level[None])
    # the frozen curve reaches that height first at the pooled pair's first budget, the other at its last
    assert found.factor == pytest.approx(MINUTES[2] / MINUTES[4])


def test_intervals_hold_the_factor_as_often_as_they_say() -> None:
    """300 experiments whose curves were measured with an error that the draws know."""
    random, factor, sd, held = np.random.default_rng(1), 4.0, 0.012, []
    for _ in range(300):
        before, after = (
            values + sd * random.standard_normal(5) for values in (curve(MINUTES), curve(MINUTES, factor))
        )
        found = saving(MINUTES, before, after, drawn(before, random, sd, 200), drawn(after, random, sd, 200))
        held.append(found.low <= factor <= found.high)
    # draws about what was measured are spread twice: the interval may be wider, hardly narrower
    assert np.mean(held) > 0.95 - 2 * math.sqrt(0.95 * 0.05 / 300) - 0.02
