"""Adam descends to the ridge of the same objective, as scikit-learn solves it."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from wav2bold.trainables.adam_head import fit_by_adam

ALPHA = np.array([3, 10, 30, 100, 300], np.float32)


def data(width: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    features = random.standard_normal((80, width)) * np.logspace(-1, 1, width) + 4
    y = features / features.std(0) @ random.standard_normal((width, 5)) / 3
    return features.astype(np.float32), (y + random.standard_normal(y.shape) + 7).astype(np.float32)


def standardised(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    return (features - features.mean(0)) / features.std(0)


@pytest.mark.parametrize("width", [12, 120])
@pytest.mark.parametrize("seed", [0, 1])
def test_adam_comes_within_a_thousandth_of_the_closed_form(width: int, seed: int) -> None:
    """Predictions of targets of sd 1 to 4; the second subject lacks every fifth volume."""
    features, y = data(width)
    y[::5, 3:] = np.nan
    head = fit_by_adam(features, y, ALPHA, steps=3000, lr=0.05, seed=seed)
    x = standardised(features)
    for v, alpha in enumerate(ALPHA):
        there = np.isfinite(y[:, v])
        ridge = Ridge(alpha).fit(x[there], y[there, v].astype(np.float64))
        np.testing.assert_allclose(head.predict(features)[:, v], ridge.predict(x), atol=1e-3)
        np.testing.assert_allclose(head.weight[:, v], ridge.coef_, atol=1e-3)
    np.testing.assert_array_equal(head.alpha, ALPHA)


def test_few_steps_are_not_there_yet_and_depend_on_the_seed() -> None:
    features, y = data(12)
    one, other, again = (fit_by_adam(features, y, ALPHA, 20, 0.05, seed).weight for seed in (0, 1, 0))
    truth = Ridge(ALPHA).fit(standardised(features), y.astype(np.float64)).coef_.T
    assert np.abs(one - truth).max() > 0.01
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_array_equal(one, again)


def test_a_constant_target_and_one_never_measured_are_treated_as_ridge_does() -> None:
    features, y = data(12)
    y[:, 1], y[:, 2] = 0.1, np.nan
    head = fit_by_adam(features, y, ALPHA, 50, 0.05, seed=0)
    assert not head.weight[:, 1:3].any()
    assert head.bias[1:3].tolist() == [np.float32(0.1), 0]
    assert head.alpha[1:3].tolist() == [0, 0]
    assert head.constant == 2
    assert np.isfinite(head.weight).all()
