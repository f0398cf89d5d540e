"""The head is scikit-learn's ridge at the penalty that cross-validation by hand chooses."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge

from wav2bold.trainables.ridge import ALPHAS, Head, fit_head

TALL, WIDE = (90, 12), (60, 140)
SHAPES = pytest.mark.parametrize("shape", [TALL, WIDE], ids=["primal", "kernel"])


def data(
    shape: tuple[int, int], targets: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of very different sizes, targets of very different noise, three stories."""
    random = np.random.default_rng(seed)
    volumes, width = shape
    features = random.standard_normal(shape) * np.logspace(-2, 2, width) + random.standard_normal(width)
    standard = (features - features.mean(0)) / features.std(0)
    signal = standard @ random.standard_normal((width, targets)) / np.sqrt(width)
    y = signal + np.logspace(-1.5, 1, targets) * random.standard_normal((volumes, targets)) + 3
    story = np.array(["bakery", "bakery", "ferry", "library"])[np.arange(volumes) * 4 // volumes]
    return features.astype(np.float32), y.astype(np.float32), story


def standardised(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    return (features - features.mean(0)) / features.std(0)


def fold_scores(x: np.ndarray, y: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Mean over folds of r on the fold left out: (alphas, targets)."""
    scores = np.zeros((len(ALPHAS), y.shape[1]))
    folds = np.unique(number)
    for fold in folds:
        out = number == fold
        for row, alpha in enumerate(ALPHAS):
            predicted = Ridge(alpha).fit(x[~out], y[~out]).predict(x[out])
            for v in range(y.shape[1]):
                scores[row, v] += stats.pearsonr(predicted[:, v], y[out, v]).statistic / len(folds)
    return scores


@SHAPES
def test_every_target_has_scikit_learns_weights_at_its_own_penalty(shape: tuple[int, int]) -> None:
    features, y, story = data(shape)
    head = fit_head(features, y, story)
    x = standardised(features)
    for v in range(y.shape[1]):
        ridge = Ridge(alpha=float(head.alpha[v])).fit(x, y[:, v].astype(np.float64))
        np.testing.assert_allclose(head.weight[:, v], ridge.coef_, atol=1e-4)
        assert head.bias[v] == pytest.approx(ridge.intercept_, abs=1e-4)
        np.testing.assert_allclose(head.predict(features)[:, v], ridge.predict(x), atol=1e-4)
    assert len(set(head.alpha)) > 1


@SHAPES
def test_the_penalty_is_the_one_that_predicts_stories_left_out_best(shape: tuple[int, int]) -> None:
    features, y, story = data(shape)
    head = fit_head(features, y, story)
    scores = fold_scores(
        standardised(features), y.astype(np.float64), np.unique(story, return_inverse=True)[1]
    )
    np.testing.assert_allclose(head.alpha, np.array(ALPHAS)[scores.argmax(0)], rtol=1e-6)


def test_of_a_single_story_five_stretches_are_left_out_in_turn() -> None:
    features, y, _ = data(TALL, seed=1)
    head = fit_head(features, y, np.array(["ferry"] * len(y)))
    stretch = np.repeat(np.arange(5), len(y) // 5)
    scores = fold_scores(standardised(features), y.astype(np.float64), stretch)
    np.testing.assert_allclose(head.alpha, np.array(ALPHAS)[scores.argmax(0)], rtol=1e-6)


@SHAPES
def test_head_l2_multiplies_the_chosen_penalty(shape: tuple[int, int]) -> None:
    features, y, story = data(shape)
    plain, strong = (fit_head(features, y, story, head_l2) for head_l2 in (1.0, 2.5))
    np.testing.assert_allclose(strong.alpha, 2.5 * plain.alpha, rtol=1e-6)
    x = standardised(features)
    ridge = Ridge(alpha=strong.alpha.astype(np.float64)).fit(x, y.astype(np.float64))
    np.testing.assert_allclose(strong.weight, ridge.coef_.T, atol=1e-4)


@SHAPES
def test_subjects_who_lack_volumes_are_fitted_as_if_alone(shape: tuple[int, int]) -> None:
    """Standardised over all volumes, as the shared head is; then each subject's own rows only."""
    features, y, story = data(shape)
    lacking = story == "library"
    few = np.zeros(len(y), bool)
    few[::7] = True
    joint = y.copy()
    joint[np.ix_(lacking, [2, 3])] = np.nan
    joint[np.ix_(few, [4, 5])] = np.nan
    head = fit_head(features, joint, story)
    x = standardised(features)
    for rows, columns in ((np.ones(len(y), bool), [0, 1]), (~lacking, [2, 3]), (~few, [4, 5])):
        number = np.unique(story[rows], return_inverse=True)[1]
        own = y[np.ix_(rows, columns)].astype(np.float64)
        alpha = np.array(ALPHAS)[fold_scores(x[rows], own, number).argmax(0)]
        np.testing.assert_allclose(head.alpha[columns], alpha, rtol=1e-6)
        ridge = Ridge(alpha=alpha).fit(x[rows], own)
        np.testing.assert_allclose(head.weight[:, columns], ridge.coef_.T, atol=1e-4)
        np.testing.assert_allclose(head.bias[columns], ridge.intercept_, atol=1e-4)


@SHAPES
def test_features_of_another_size_give_the_same_predictions(shape: tuple[int, int]) -> None:
    features, y, story = data(shape)
    size = np.logspace(2, -2, shape[1]).astype(np.float32)
    one = fit_head(features, y, story).predict(features)
    two = fit_head(features * size, y, story).predict(features * size)
    np.testing.assert_allclose(one, two, atol=2e-3)


@SHAPES
@pytest.mark.parametrize("value", [0.0, 1.0, -1234.5])
def test_a_constant_feature_changes_nothing(shape: tuple[int, int], value: float) -> None:
    features, y, story = data(shape)
    with_one = np.insert(features, 3, np.float32(value), axis=1)
    head, other = fit_head(features, y, story), fit_head(with_one, y, story)
    assert np.abs(other.weight[3]).max() < 1e-10
    np.testing.assert_allclose(other.predict(with_one), head.predict(features), atol=1e-4)


@SHAPES
def test_what_drift_leaves_of_a_constant_feature_is_not_blown_up(shape: tuple[int, int]) -> None:
    """Rounding: a millionth of the other features' spread. Standardised it would be a feature of noise."""
    features, y, story = data(shape)
    features = standardised(features).astype(np.float32)
    rounding = 1e-7 * np.random.default_rng(5).standard_normal(len(y))
    with_one = np.insert(features, 3, rounding.astype(np.float32), axis=1)
    head, other = fit_head(features, y, story), fit_head(with_one, y, story)
    np.testing.assert_allclose(other.predict(with_one), head.predict(features), atol=1e-4)


@SHAPES
def test_a_constant_target_is_predicted_by_itself_and_disturbs_no_other(shape: tuple[int, int]) -> None:
    features, y, story = data(shape)
    with_one = np.insert(y, 2, np.float32(7), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head, other = fit_head(features, y, story), fit_head(features, with_one, story)
    predicted = other.predict(features)
    np.testing.assert_allclose(predicted[:, 2], 7, atol=1e-4)
    np.testing.assert_allclose(np.delete(predicted, 2, axis=1), head.predict(features), atol=1e-4)


def test_new_volumes_are_standardised_by_the_training_volumes() -> None:
    head = Head(
        mean=np.array([1, 2], np.float32),
        sd=np.array([2, 4], np.float32),
        weight=np.array([[1], [10]], np.float32),
        bias=np.array([5], np.float32),
        alpha=np.array([1], np.float32),
    )
    assert head.predict(np.array([[3, 6], [1, 2]], np.float32)).tolist() == [[16], [5]]
