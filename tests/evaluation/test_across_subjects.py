"""Subjects are the unit."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from wav2bold.evaluation.across_subjects import summary

GAINS = [0.031, 0.012, -0.004, 0.052, 0.027, 0.018]


def test_mean_interval_and_p_are_scipys() -> None:
    found = summary(GAINS)
    test = stats.ttest_1samp(GAINS, 0)
    interval = test.confidence_interval(0.95)
    assert found.mean.value == pytest.approx(np.mean(GAINS))
    assert (found.mean.low, found.mean.high) == pytest.approx((interval.low, interval.high))
    # exact: of 64 assignments of signs to ranks, 2 leave as much: ranks 1 alone is below 0, or none is
    assert found.p == pytest.approx(2 / 64)
    assert (found.above, found.subjects) == (5, 6)


def test_the_summary_is_that_of_a_mixed_model_with_subjects_as_its_random_effect() -> None:
    """Of blocks within subjects: statsmodels' restricted maximum likelihood, exact where all have as many."""
    random = np.random.default_rng(2)
    people, blocks = 12, 30
    gains = 0.2 + 0.3 * random.standard_normal((people, 1)) + 0.5 * random.standard_normal((people, blocks))
    groups = np.repeat(np.arange(people), blocks)
    mixed = MixedLM(gains.ravel(), np.ones(gains.size), groups=groups).fit(reml=True)
    found = summary(gains.mean(1)).mean
    assert found.value == pytest.approx(mixed.fe_params[0])
    error = (found.high - found.value) / stats.t.ppf(0.975, people - 1)
    assert error == pytest.approx(mixed.bse_fe[0], rel=1e-3)
    # volumes or blocks as the unit would claim to know it better
    assert error > 1.2 * gains.std(ddof=1) / np.sqrt(gains.size)


def test_a_subject_without_a_number_is_no_subject() -> None:
    assert summary([*GAINS, float("nan")]) == summary(GAINS)


def test_one_subject_has_no_interval_and_none_nothing() -> None:
    alone = summary([0.02])
    assert alone.mean.value == 0.02
    assert np.isnan(alone.mean.low)
    assert alone.p == 0.5
    assert summary([]).subjects == 0
    assert np.isnan(summary([]).mean.value)


def test_no_change_in_anybody_is_no_evidence() -> None:
    assert summary([0.0, 0.0, 0.0]).p == 1.0
