"""p values are uniform where there is nothing, and small where there is something."""

from itertools import permutations

import numpy as np
import pytest
from noises import ar, heard
from scipy import stats
from sklearn.feature_selection import SelectFdr
from statsmodels.stats.multitest import multipletests

from wav2bold.evaluation import significance
from wav2bold.evaluation.significance import improvement_p, prediction_p, significant
from wav2bold.trainables import scores

TR_S = 1.5


def one_story(volumes: int) -> np.ndarray:
    return np.full(volumes, "milkyway")


@pytest.mark.parametrize("memory", [(0.4, 0.7), (0.4, 0.9), (0.8, 0.9)])
def test_p_of_1000_predictions_of_nothing_is_uniform(memory: tuple[float, float]) -> None:
    random = np.random.default_rng(0)
    y, predicted = (ar(random, 400, 1000, one) for one in memory)
    p = prediction_p(y, predicted, one_story(400), TR_S)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert (p <= 0.05).mean() < stats.binom.ppf(0.999, 1000, 0.06) / 1000


def test_p_of_1000_improvements_that_are_none_is_uniform() -> None:
    random = np.random.default_rng(1)
    y, signal = heard(random, 400, 1000, 0.5)
    before, after = (signal + ar(random, 400, 1000, 0.7) for _ in range(2))
    p = improvement_p(y, before, after, one_story(400), TR_S)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert (p <= 0.05).mean() < stats.binom.ppf(0.999, 1000, 0.06) / 1000


def test_volumes_one_by_one_would_believe_in_nothing_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What blocks are for."""
    random = np.random.default_rng(0)
    y, predicted = ar(random, 200, 500, 0.8), ar(random, 200, 500, 0.9)
    monkeypatch.setattr(significance, "BLOCK_S", TR_S)
    p = prediction_p(y, predicted, one_story(200), TR_S, permutations=200)
    assert (p <= 0.05).mean() > 0.2


def test_p_is_that_of_all_orders_of_blocks_with_r_of_scipy() -> None:
    y, predicted = heard(np.random.default_rng(2), 126, 3, 0.3)
    y += 100
    p = prediction_p(y, predicted, one_story(126), TR_S, permutations=20_000)
    rows = np.arange(126 // 20 * 20).reshape(6, 20)
    for v in range(3):
        r = [
            stats.pearsonr(y[rows.ravel(), v], predicted[rows[list(order)].ravel(), v]).statistic
            for order in permutations(range(6))
        ]
        truth = np.mean(np.array(r) >= r[0] - 1e-9)
        assert p[v] == pytest.approx(truth, abs=4 * np.sqrt(truth / 20_000))


def test_an_improvements_p_is_that_of_all_signs_of_blocks() -> None:
    random = np.random.default_rng(3)
    y, signal = heard(random, 120, 3, 0.5)
    before, after = (signal + ar(random, 120, 3, 0.7) for _ in range(2))
    p = improvement_p(y, before, after, one_story(120), TR_S, permutations=20_000)
    z = stats.zscore
    shares = (z(y) * (z(after) - z(before))).reshape(12, 10, 3).sum(1)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 12)).reshape(12, -1)
    for v in range(3):
        truth = np.mean(shares[:, v] @ signs >= shares[:, v].sum() - 1e-9)
        assert p[v] == pytest.approx(truth, abs=4 * np.sqrt(0.25 / 20_000))


def test_planted_targets_are_found_and_no_others() -> None:
    random = np.random.default_rng(4)
    y, predicted = ar(random, 400, 200), ar(random, 400, 200, 0.7)
    y[:, :60] += 0.5 * predicted[:, :60]
    found = significant(prediction_p(y, predicted, one_story(400), TR_S))
    assert found[:60].mean() > 0.95
    assert found[60:].mean() < 0.05


def test_planted_improvements_are_found_and_their_opposites_not() -> None:
    random = np.random.default_rng(5)
    y, signal = heard(random, 400, 40, 0.6)
    worse, better = (signal + share * ar(random, 400, 40, 0.7) for share in (2.0, 0.5))
    assert (improvement_p(y, worse, better, one_story(400), TR_S) < 0.05).mean() > 0.9
    assert improvement_p(y, better, worse, one_story(400), TR_S).min() > 0.5


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_discoveries_are_those_of_statsmodels_and_scikit_learn(level: float) -> None:
    random = np.random.default_rng(6)
    for true in (0, 100, 300):
        p = random.uniform(size=1000)
        p[:true] = random.uniform(0, 0.001, true)
        p[-200:] = np.round(p[-200:], 2)  # permutations give equal ones
        truth, *_ = multipletests(p, alpha=level, method="fdr_bh")
        np.testing.assert_array_equal(significant(p, level), truth)
        select = SelectFdr(lambda x, _: (x[0], x[0]), alpha=level)
        np.testing.assert_array_equal(select.fit(p[None], [0]).get_support(), truth)
        assert truth.sum() >= true * (level >= 0.05)


def test_what_has_no_correlation_is_not_tested() -> None:
    y, predicted = np.random.default_rng(7).standard_normal((2, 200, 4))
    y[:, 0], predicted[:, 1] = 2.0, 0.1
    p = prediction_p(y, predicted, one_story(200), TR_S)
    np.testing.assert_array_equal(np.isnan(p), [True, True, False, False])
    np.testing.assert_array_equal(np.isnan(improvement_p(y, y, predicted, one_story(200), TR_S))[:2], True)
    assert not significant(np.array([np.nan, np.nan])).any()
    assert significant(np.array([np.nan, 0.001]))[1]
    assert np.isnan(prediction_p(y[:1], predicted[:1], one_story(1), TR_S)).all()


def test_a_seed_gives_the_same_p_and_memory_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    y, predicted = heard(np.random.default_rng(8), 300, 30, 0.1)
    first, paired = (
        test(y, predicted, *more, one_story(300), TR_S, seed=1)
        for test, more in (
            (prediction_p, ()),
            (improvement_p, (predicted + ar(np.random.default_rng(9), 300, 30),)),
        )
    )
    assert (first != prediction_p(y, predicted, one_story(300), TR_S, seed=2)).any()
    monkeypatch.setattr(scores, "MAX_BYTES", 1)
    np.testing.assert_array_equal(prediction_p(y, predicted, one_story(300), TR_S, seed=1), first)
    again = improvement_p(
        y, predicted, predicted + ar(np.random.default_rng(9), 300, 30), one_story(300), TR_S, seed=1
    )
    np.testing.assert_array_equal(again, paired)
