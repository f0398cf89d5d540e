"""Equal error rates are those of independent code and of theory, for one draw of speakers and for many."""

import math

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import roc_curve

from wav2bold.evaluation.utterances import utterance_interval
from wav2bold.trainables.superb.protocol import Score
from wav2bold.trainables.superb.statistic import DRAWS_AT_ONCE, equal_error_rate


def others(targets: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """As usually written: where scikit-learn's curve, interpolated, crosses the diagonal."""
    false, true, _ = roc_curve(targets, scores, sample_weight=weights)
    return float(brentq(lambda rate: 1 - rate - interp1d(false, true)(rate), 0, 1))


def once(targets: np.ndarray, scores: np.ndarray) -> float:
    counts = np.ones((1, len(scores)), np.float32)
    return float(equal_error_rate(scores, targets.astype(float), np.arange(len(scores)), counts)[0])


@pytest.mark.parametrize("rounded", [None, 1, 0])
def test_it_is_where_scikit_learns_curve_crosses_with_ties_too(rounded: int | None) -> None:
    random = np.random.default_rng(0)
    for number in (5, 40, 500):
        for _ in range(20):
            targets = np.append(random.random(number) < 0.4, [True, False])
            scores = random.standard_normal(number + 2) + targets
            if rounded is not None:
                scores = scores.round(rounded)
            assert once(targets, scores) == pytest.approx(others(targets, scores), abs=1e-9)


def test_it_is_the_closed_form_of_two_normals() -> None:
    """Of scores about 0 and about d with spread 1 it is the normal's share below -d / 2."""
    quantiles = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    scores = np.concatenate([quantiles, quantiles + 2.5])
    targets = np.repeat([False, True], 20_000)
    assert once(targets, scores) == pytest.approx(norm.cdf(-1.25), abs=1e-4)
    assert once(targets, -scores) == pytest.approx(norm.cdf(1.25), abs=1e-4)
    assert once(targets, np.zeros(40_000)) == 0.5


def test_a_trial_counts_as_often_as_both_its_speakers_are_drawn() -> None:
    random = np.random.default_rng(1)
    unit = random.integers(0, 6, (300, 2))
    unit[:100, 1] = unit[:100, 0]
    targets = unit[:, 0] == unit[:, 1]
    scores = random.standard_normal(300) + targets
    counts = random.integers(0, 3, (2 * DRAWS_AT_ONCE + 7, 6)).astype(np.float32)
    counts[:, :2] += 1  # so that each draw has trials of both kinds
    found = equal_error_rate(scores, targets.astype(float), unit, counts)
    for rate, drawn in list(zip(found, counts, strict=True))[::9]:
        one, other = drawn[unit.T]
        weights = np.where(targets, one, one * other)
        used = weights > 0
        assert rate == pytest.approx(others(targets[used], scores[used], weights[used]), abs=1e-6)


def test_a_draw_without_trials_of_one_kind_has_no_rate_and_is_left_out() -> None:
    unit, targets = np.array([[0, 0], [0, 1], [1, 1]]), np.array([1.0, 0, 1])
    found = equal_error_rate(np.array([0.9, 0.1, 0.8]), targets, unit, np.array([[1, 1], [2, 0]], np.float32))
    assert found[0] == 0
    assert math.isnan(found[1])
    interval = utterance_interval(score_of(np.array([0.9, 0.1, 0.8]), targets, unit.astype(str)))
    assert math.isfinite(interval.high)


def test_intervals_hold_the_rate_of_all_speakers_as_often_as_they_say() -> None:
    """Speakers who are hard to refuse, and hard to let in: 40 of them, drawn 150 times."""
    random = np.random.default_rng(2)
    held = 0
    for _ in range(150):
        hard = 0.5 * random.standard_normal((2, 40))
        unit = np.array([(one, other) for one in range(40) for other in {one, *random.integers(0, 40, 12)}])
        unit = np.concatenate([unit, np.repeat(np.arange(40)[:, None], 2, 1).repeat(9, 0)])
        targets = unit[:, 0] == unit[:, 1]
        first, second = unit.T
        scores = np.where(targets, 2.5 + hard[0, first], (hard[1, first] + hard[1, second]) / math.sqrt(2))
        scores += math.sqrt(0.75) * random.standard_normal(len(unit))
        interval = utterance_interval(score_of(scores, targets.astype(float), unit.astype(str)), draws=200)
        held += interval.low <= norm.cdf(-1.25) <= interval.high
    assert held / 150 >= 0.9, "three standard deviations below 0.95 are 0.897"


def score_of(scores: np.ndarray, targets: np.ndarray, unit: np.ndarray) -> Score:
    return Score(
        task="asv",
        metric="equal error rate",
        higher_is_better=False,
        parts=scores,
        wholes=targets,
        unit=unit,
        fold=np.zeros(len(scores), np.int64),
        rates=(1e-3,),
        dev=({1e-3: 0.1},),
        weights=np.full(3, 1 / 3),
        lengths=np.ones(3),
        statistic="eer",
    )
