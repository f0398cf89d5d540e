"""Shares of variance are scikit-learn's; shares of a ceiling are of one worth the name."""

import numpy as np
from sklearn.metrics import r2_score

from wav2bold.evaluation.shares import explained_variance, of_ceiling


def test_r2_is_scikit_learns_for_every_target() -> None:
    random = np.random.default_rng(0)
    y = (random.standard_normal((60, 5)) + 50).astype(np.float32)
    predicted = (y + random.standard_normal((60, 5)) * [0.1, 0.5, 1, 2, 4]).astype(np.float32)
    truth = r2_score(y.astype(float), predicted.astype(float), multioutput="raw_values")
    np.testing.assert_allclose(explained_variance(y, predicted), truth, atol=1e-6)
    assert truth.min() < 0 < truth.max()


def test_a_constant_target_has_no_variance_to_explain() -> None:
    y = np.full((30, 2), 0.1, np.float32)
    y[:, 1] = np.arange(30)
    np.testing.assert_array_equal(np.isnan(explained_variance(y, y)), [True, False])


def test_a_perfect_model_reaches_all_of_the_ceiling_that_spearman_and_brown_foretell() -> None:
    random = np.random.default_rng(1)
    signal = random.standard_normal((20_000, 3))
    share = np.array([0.2, 0.5, 0.8])
    one, other = (
        np.sqrt(share) * signal + np.sqrt(1 - share) * random.standard_normal(signal.shape) for _ in range(2)
    )
    ceiling = np.sqrt([np.corrcoef(one[:, v], other[:, v])[0, 1] for v in range(3)])
    r = np.array([np.corrcoef(one[:, v], signal[:, v])[0, 1] for v in range(3)])
    np.testing.assert_allclose(of_ceiling(r, ceiling), 1, atol=0.04)


def test_nothing_is_divided_by_next_to_nothing() -> None:
    shares = of_ceiling(np.array([0.3, 0.05, 0.2]), np.array([0.6, 0.01, np.nan]))
    np.testing.assert_array_equal(shares, [0.5, np.nan, np.nan])
