"""Correlations are scipy's, and a gain is believed as often as chance allows."""

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from wav2bold.trainables.scores import brain_score, paired_gain, pearson


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def ar(random: np.random.Generator, volumes: int, targets: int, coefficient: float = 0.4) -> np.ndarray:
    noise = random.standard_normal((volumes + 50, targets))
    return np.asarray(lfilter([1], [1, -coefficient], noise, axis=0)[50:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_r_is_scipys_for_every_target(random: np.random.Generator, dtype: type) -> None:
    y = (random.standard_normal((50, 7)) * 3 + 1000).astype(dtype)
    predicted = (0.3 * y + random.standard_normal((50, 7))).astype(dtype)
    truth = [stats.pearsonr(y[:, v].astype(float), predicted[:, v].astype(float)).statistic for v in range(7)]
    np.testing.assert_allclose(pearson(y, predicted), truth, atol=1e-10)


def test_volumes_that_were_not_measured_are_left_out_target_by_target(random: np.random.Generator) -> None:
    y, predicted = random.standard_normal((2, 60, 5))
    y[:20, 1] = np.nan
    y[random.random(60) < 0.5, 2] = np.nan
    truth = []
    for v in range(5):
        there = np.isfinite(y[:, v])
        truth.append(stats.pearsonr(y[there, v], predicted[there, v]).statistic)
    np.testing.assert_allclose(pearson(y, predicted), truth, atol=1e-10)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -3.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_constant_has_no_correlation_rather_than_none(
    random: np.random.Generator, value: float, dtype: type
) -> None:
    y, predicted = random.standard_normal((2, 33, 3)).astype(dtype)
    y[:, 0] = value
    predicted[:, 1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = pearson(y, predicted)
    assert np.isnan(scores[:2]).all()
    assert np.isfinite(scores[2])


def test_a_target_that_was_never_measured_has_no_correlation(random: np.random.Generator) -> None:
    y, predicted = random.standard_normal((2, 33, 2))
    y[:, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = pearson(y, predicted)
    assert np.isnan(scores[0])
    assert scores[1] == pytest.approx(stats.pearsonr(y[:, 1], predicted[:, 1]).statistic)


def test_the_brain_score_is_the_mean_of_those_there_are() -> None:
    assert brain_score(np.array([0.2, np.nan, 0.4])) == pytest.approx(0.3)
    assert np.isnan(brain_score(np.array([np.nan, np.nan])))


def test_a_gain_is_the_mean_difference_of_r(random: np.random.Generator) -> None:
    y, before, after = random.standard_normal((3, 103, 6))
    after = after + 0.5 * y
    truth = np.mean(
        [
            stats.pearsonr(y[:, v], after[:, v]).statistic - stats.pearsonr(y[:, v], before[:, v]).statistic
            for v in range(6)
        ]
    )
    assert paired_gain(y, before, after, 10).gain == pytest.approx(truth)


def test_a_planted_gain_is_found_and_its_opposite_is_not(random: np.random.Generator) -> None:
    signal = ar(random, 200, 20)
    y = signal + ar(random, 200, 20)
    before = signal + 2 * ar(random, 200, 20)
    after = signal + 1 * ar(random, 200, 20)
    better, worse = paired_gain(y, before, after, 10), paired_gain(y, after, before, 10)
    assert better.gain > 0.05
    assert better.p < 0.001
    assert worse.p > 0.999
    assert better.blocks == 20


def test_exchanged_predictions_exchange_the_sign(random: np.random.Generator) -> None:
    y, before, after = (ar(random, 100, 5) for _ in range(3))
    there, back = paired_gain(y, before, after, 10), paired_gain(y, after, before, 10)
    assert there.gain == pytest.approx(-back.gain)
    # exact test of 2^10 assignments: the observed one counts on both sides
    assert there.p + back.p == pytest.approx(1 + 1 / 1024)


def test_p_of_a_few_blocks_is_that_of_all_assignments_of_signs(random: np.random.Generator) -> None:
    y, before, after = (ar(random, 60, 4) for _ in range(3))

    def z(values: np.ndarray) -> np.ndarray:
        return (values - values.mean(0)) / values.std(0)

    share = (z(y) * (z(after) - z(before))).mean(1).reshape(6, 10).sum(1)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    sums = share @ signs
    truth = np.mean(sums >= share.sum() - 1e-12)
    assert paired_gain(y, before, after, 10).p == pytest.approx(truth)


def test_nothing_gained_is_called_a_gain_no_more_often_than_chance() -> None:
    """200 pairs of predictions that are equally good; noise remembers, blocks are of 10 volumes."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(200):
        signal = ar(random, 120, 5)
        y, before, after = (signal + 1.5 * ar(random, 120, 5) for _ in range(3))
        found.append(paired_gain(y, before, after, 10).p)
    p = np.array(found)
    for level in (0.05, 0.25, 0.5, 0.75):
        low, high = stats.binom.ppf([0.0005, 0.9995], 200, level)
        assert low <= (p < level).sum() <= high, level


def test_equal_predictions_gain_nothing(random: np.random.Generator) -> None:
    y, before = random.standard_normal((2, 80, 4))
    same = paired_gain(y, before, before, 10)
    assert same.gain == 0
    assert same.p == 1


def test_a_volume_that_no_target_measured_has_no_share_in_the_gain(random: np.random.Generator) -> None:
    y, before, after = random.standard_normal((3, 80, 4))
    whole = paired_gain(y[10:], before[10:], after[10:], 10)
    y[:10] = np.nan
    gained = paired_gain(y, before, after, 10)
    assert (gained.gain, gained.p, gained.blocks) == (pytest.approx(whole.gain), whole.p, whole.blocks)


def test_without_any_correlation_there_is_no_gain(random: np.random.Generator) -> None:
    y = random.standard_normal((40, 3))
    flat = np.zeros((40, 3))
    none = paired_gain(y, flat, y, 10)
    assert np.isnan(none.gain)
    assert np.isnan(none.p)
    assert none.blocks == 0
