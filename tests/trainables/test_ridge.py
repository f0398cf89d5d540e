"""The head is scikit-learn's ridge at the penalty that cross-validation by hand, or himalaya, chooses."""

import dataclasses
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from himalaya.ridge import RidgeCV
from himalaya.scoring import correlation_score
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit

from wav2bold.errors import DataError
from wav2bold.trainables.leave_out import ALPHAS
from wav2bold.trainables.ridge import Head, _scores, decompose, fit_head
from wav2bold.trainables.scores import brain_score, pearson
from wav2bold.trainables.torch_head import TorchHead

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


def fold_scores(
    x: np.ndarray, y: np.ndarray, number: np.ndarray, guard: int = 0, alphas: tuple[float, ...] = ALPHAS
) -> np.ndarray:
    """Mean over folds of r on the fold left out, with `guard` rows on both sides: (alphas, targets)."""
    scores = np.zeros((len(alphas), y.shape[1]))
    folds = np.unique(number)
    for fold in folds:
        out = number == fold
        train = np.array([not out[max(row - guard, 0) : row + guard + 1].any() for row in range(len(y))])
        for row, alpha in enumerate(alphas):
            predicted = Ridge(alpha, solver="svd").fit(x[train], y[train]).predict(x[out])
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


def himalayas(x: np.ndarray, y: np.ndarray, story: np.ndarray) -> RidgeCV:
    options = {"score_func": correlation_score, "warn": False}
    folds = PredefinedSplit(np.unique(story, return_inverse=True)[1])
    return RidgeCV(ALPHAS, fit_intercept=True, cv=folds, solver_params=options).fit(x, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(200, 30), (200, 190), (150, 260)], ids=["primal", "between", "kernel"])
def test_himalaya_chooses_the_same_penalties_and_predicts_the_same(
    shape: tuple[int, int], dtype: type
) -> None:
    features, y, story = data(shape, targets=40, seed=2)
    x = standardised(features).astype(dtype)
    truth = himalayas(x, y.astype(dtype), story)
    head = fit_head(features, y, story)
    np.testing.assert_allclose(head.alpha, truth.best_alphas_, rtol=1e-4)
    np.testing.assert_allclose(head.predict(features), truth.predict(x), atol=1e-4)
    assert len(set(head.alpha)) > 5


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.integers(2, 12), min_size=2, max_size=5),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_held_out_scores_are_those_of_a_fit_without_the_story(rows: list[int], width: int, seed: int) -> None:
    """Of any number of rows and features: kernel and primal form, stories of any length."""
    random = np.random.default_rng(seed)
    x = standardised(random.standard_normal((sum(rows), width))).astype(np.float32)
    y = (x[:, :1] + random.standard_normal((len(x), 3))).astype(np.float32)
    number = np.repeat(np.arange(len(rows)), rows)
    decomposition = decompose(x, number.astype(str))
    solved = decomposition._of(np.arange(len(x)))
    truth = fold_scores(x.astype(np.float64), y.astype(np.float64), number)
    np.testing.assert_allclose(_scores(solved, y - y.mean(0))[::-1], truth, atol=2e-5)


# Shared, and bounded in memory


@SHAPES
def test_another_subject_of_the_same_stories_costs_matrix_products_only(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, one, story = data(shape)
    _, other, _ = data(shape, targets=4, seed=1)
    one[story == "library", :2] = other[story == "library", :2] = np.nan
    decomposition = decompose(features, story)
    decomposition.fit(one)
    for name in ("eigh", "eigvalsh", "svd", "solve", "inv", "cholesky", "lstsq", "qr"):
        monkeypatch.setattr(np.linalg, name, None)
    shared = decomposition.fit(other, head_l2=2.0)
    again = decomposition.fit(one)
    monkeypatch.undo()
    for head, alone in (
        (shared, fit_head(features, other, story, 2.0)),
        (again, fit_head(features, one, story)),
    ):
        np.testing.assert_array_equal(head.alpha, alone.alpha)
        np.testing.assert_allclose(head.weight, alone.weight, atol=1e-6)
        np.testing.assert_allclose(head.bias, alone.bias, atol=1e-5)


def test_the_targets_of_two_brains_stay_within_the_memory_given() -> None:
    """82,000 vertices: the largest moment, beside what was given and what is returned."""
    random = np.random.default_rng(0)
    features = random.standard_normal((60, 24)).astype(np.float32)
    y = random.standard_normal((60, 82_000), np.float32)
    y[40:, 50_000:] = np.nan
    story = np.repeat(["bakery", "ferry", "library"], 20)
    most = 4 << 20
    for width in (24, 3):
        tracemalloc.start()
        head = decompose(features[:, :width], story, max_bytes=most).fit(y)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        returned = sum(part.nbytes for part in vars(head).values())
        assert peak - returned < most
        assert len(ALPHAS) * y.nbytes > 50 * most
        assert (head.alpha > 0).all()


@SHAPES
def test_little_memory_changes_no_number(shape: tuple[int, int]) -> None:
    features, y, story = data(shape, targets=30)
    y[::9, 10:20] = np.nan
    y[story == "library", 20:] = np.nan
    roomy, tight = decompose(features, story), decompose(features, story, max_bytes=10_000)
    one, two = roomy.fit(y), tight.fit(y)
    np.testing.assert_array_equal(one.alpha, two.alpha)
    np.testing.assert_allclose(one.weight, two.weight, atol=1e-6)
    np.testing.assert_allclose(one.bias, two.bias, atol=1e-5)
    assert sorted(len(each.kept) for each in roomy._solved.values()) == [2, 3, 3]
    assert [len(each.kept) for each in tight._solved.values()] == [0]


# Stretches of a single story


@SHAPES
@pytest.mark.parametrize("guard", [0, 4])
def test_rows_beside_a_stretch_are_not_trained_on(shape: tuple[int, int], guard: int) -> None:
    features, y, _ = data(shape, targets=20, seed=1)
    features += np.cumsum(features, axis=0) / 5  # windows overlap: neighbours are alike
    story = np.array(["ferry"] * len(y))
    stretch = np.arange(len(y)) * 5 // len(y)
    x = standardised(features)
    truth = fold_scores(x, y.astype(np.float64), stretch, guard)
    head = fit_head(features, y, story, guard=guard)
    np.testing.assert_allclose(head.alpha, np.array(ALPHAS)[truth.argmax(0)], rtol=1e-6)
    solved = decompose(features, story, guard=guard)._of(np.arange(len(y)))
    np.testing.assert_allclose(_scores(solved, y - y.mean(0))[::-1], truth, atol=1e-5)
    if guard:
        assert np.abs(truth - fold_scores(x, y.astype(np.float64), stretch)).max() > 0.01


def test_a_guard_counts_volumes_also_those_that_a_subject_lacks() -> None:
    """Of volumes 0 to 49 the even ones: with a guard of 2 each stretch loses one row on each side."""
    features, y, _ = data((50, 8))
    y[1::2] = np.nan
    number = np.arange(25) * 5 // 25
    x = standardised(features)[::2]
    head = fit_head(features, y, np.array(["ferry"] * 50), guard=2)
    truth = fold_scores(x, y[::2].astype(np.float64), number, guard=1)
    np.testing.assert_allclose(head.alpha, np.array(ALPHAS)[truth.argmax(0)], rtol=1e-6)
    solved = decompose(features, np.array(["ferry"] * 50), guard=2)._of(np.arange(0, 50, 2))
    np.testing.assert_allclose(_scores(solved, y[::2] - y[::2].mean(0))[::-1], truth, atol=1e-5)


@SHAPES
def test_stories_need_no_guard(shape: tuple[int, int]) -> None:
    features, y, story = data(shape)
    one, two = fit_head(features, y, story), fit_head(features, y, story, guard=20)
    np.testing.assert_array_equal(one.weight, two.weight)


def test_too_few_volumes_for_a_guard_are_named() -> None:
    features, y, _ = data((20, 5))
    with pytest.raises(DataError) as raised:
        fit_head(features, y, np.array(["ferry"] * 20), guard=10)
    assert str(raised.value) == (
        "ferry: 20 volumes are too few to leave out a fifth and 10 beside it; "
        "train on more stories, or shorten the history"
    )


# Numbers that are hard to tell apart


@pytest.mark.parametrize("width", [12, 140], ids=["primal", "kernel"])
def test_features_that_nearly_repeat_each_other_are_told_apart_as_scikit_learn_does(width: int) -> None:
    """Singular values over six decades, with penalties far below the largest."""
    random = np.random.default_rng(0)
    common = random.standard_normal((90, 1))
    features = (common + 1e-5 * random.standard_normal((90, width))).astype(np.float32)
    features[:, -1] = random.standard_normal(90)
    y = (features[:, -1:] + random.standard_normal((90, 6))).astype(np.float32)
    story = np.repeat(["bakery", "ferry", "library"], 30)
    alphas = (1e-4, 1e-2, 1.0)
    head = fit_head(features, y, story, alphas=alphas)
    x = (features - head.mean).astype(np.float64) / head.sd
    truth = fold_scores(x, y.astype(np.float64), np.repeat([0, 1, 2], 30), alphas=alphas)
    np.testing.assert_allclose(head.alpha, np.array(alphas)[truth.argmax(0)], rtol=1e-6)
    ridge = Ridge(head.alpha.astype(np.float64), solver="svd").fit(x, y.astype(np.float64))
    np.testing.assert_allclose(x @ head.weight.astype(np.float64) + head.bias, ridge.predict(x), atol=1e-4)


def test_where_float32_would_lose_a_prediction_float64_is_taken() -> None:
    """A feature that differs in one story alone: of no use when that is left out, and large where it is."""
    features, y, story = data(TALL)
    features[:, 4] = np.where(story == "ferry", 3 * features[:, 4], 0.7)
    features[:, 5] = np.where(story == "ferry", -features[:, 4], 0.1)
    y[story == "ferry"] *= 100
    alphas = (1e-6, 1e-5)
    number = np.unique(story, return_inverse=True)[1]
    solved = decompose(features, story, alphas)._of(np.arange(len(y)))
    x = (features - features.mean(0)) / features.std(0)
    truth = fold_scores(x.astype(np.float64), y.astype(np.float64), number, alphas=alphas)
    values = y - y.mean(0)
    assert solved.dtype is np.float64
    np.testing.assert_allclose(_scores(solved, values)[::-1], truth, atol=1e-4)
    careless = dataclasses.replace(solved, dtype=np.float32, kept={})
    assert np.abs(_scores(careless, values)[::-1] - truth).max() > 0.01
    assert decompose(features, story, (1e-2,))._of(np.arange(len(y))).dtype is np.float64
    plain = decompose(*data(TALL)[::2])._of(np.arange(len(y)))
    assert plain.dtype is np.float32


@SHAPES
def test_where_divide_and_conquer_fails_another_decomposition_gives_the_same(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    features, y, story = data(shape)
    head = fit_head(features, y, story)

    def fails(gram: np.ndarray) -> None:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(np.linalg, "eigh", fails)
    other = fit_head(features, y, story)
    np.testing.assert_array_equal(other.alpha, head.alpha)
    np.testing.assert_allclose(other.predict(features), head.predict(features), atol=1e-5)


# Targets that nothing can predict


@SHAPES
def test_a_constant_target_is_predicted_by_itself_and_disturbs_no_other(shape: tuple[int, int]) -> None:
    features, y, story = data(shape)
    with_one = np.insert(y, 2, np.float32(7.1), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head, other = fit_head(features, y, story), fit_head(features, with_one, story)
    predicted = other.predict(features)
    np.testing.assert_array_equal(predicted[:, 2], np.float32(7.1))
    np.testing.assert_allclose(np.delete(predicted, 2, axis=1), head.predict(features), atol=1e-4)
    assert (head.constant, other.constant) == (0, 1)


@SHAPES
def test_what_was_constant_or_never_measured_is_counted_and_has_no_score(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    """And does no harm: stage 2's penalty is a number, and the head is the same when read back."""
    features, y, story = data(shape)
    y[:, 1] = -1e4 / 3
    y[:, 3] = np.nan
    y[story != "ferry", 4] = np.nan
    y[story == "ferry", 4] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = fit_head(features, y, story)
    nothing = [1, 3, 4]
    assert head.constant == 3
    assert not head.weight[:, nothing].any()
    assert head.alpha[nothing].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(head.bias[nothing], np.array([-1e4 / 3, 0, 0.1], np.float32))
    _, measured, _ = data(shape, seed=5)
    scores = pearson(measured, head.predict(features))
    assert np.flatnonzero(np.isnan(scores)).tolist() == nothing
    assert brain_score(scores) == pytest.approx(np.delete(scores, nothing).mean())
    tuned = TorchHead(head, torch.device("cpu"))
    assert torch.isfinite(tuned.penalty())
    assert torch.isfinite(tuned(torch.from_numpy(features))).all()
    save_file(vars(head), tmp_path / "head.safetensors")
    again = Head(**load_file(tmp_path / "head.safetensors"))
    assert again.constant == 3


@SHAPES
def test_residuals_are_what_scikit_learns_ridge_of_the_other_stories_misses(shape: tuple[int, int]) -> None:
    """Without their mean in each story; a subject may lack volumes, and a target may be constant."""
    features, y, story = data(shape)
    y[:5, 2:4] = np.nan
    y[:, 5] = 7
    shared = decompose(features, story)
    alpha = shared.fit(y).alpha
    residuals = shared.residuals(y, alpha)
    x = standardised(features)
    for v in range(5):
        there = np.isfinite(y[:, v])
        assert np.array_equal(np.isfinite(residuals[:, v]), there)
        for held in np.unique(story):
            train, out = there & (story != held), there & (story == held)
            ridge = Ridge(alpha=float(alpha[v])).fit(x[train], y[train, v].astype(np.float64))
            missed = y[out, v] - ridge.predict(x[out])
            np.testing.assert_allclose(
                residuals[out, v], missed - missed.mean(), atol=2e-4 * y[there, v].std()
            )
    assert not residuals[:, 5].any()


def test_where_nothing_varies_nothing_is_decomposed() -> None:
    head = fit_head(
        np.ones((4, 2), np.float32), np.full((4, 3), 2, np.float32), np.array(["ferry"] * 4), guard=9
    )
    assert head.constant == 3
    np.testing.assert_array_equal(head.bias, 2)


@SHAPES
def test_a_target_constant_in_one_story_is_chosen_for_by_the_others(shape: tuple[int, int]) -> None:
    """As himalaya chooses. Where no story has a correlation the largest penalty is taken."""
    features, y, story = data(shape, targets=12)
    y[story == "library", :6] = 0.3
    y[story != "library", 6:9] = -2.7
    truth = himalayas(standardised(features), y.astype(np.float64), story).best_alphas_
    truth[6:9] = max(ALPHAS)
    np.testing.assert_allclose(fit_head(features, y, story).alpha, truth, rtol=1e-4)


def test_new_volumes_are_standardised_by_the_training_volumes() -> None:
    head = Head(
        mean=np.array([1, 2], np.float32),
        sd=np.array([2, 4], np.float32),
        weight=np.array([[1], [10]], np.float32),
        bias=np.array([5], np.float32),
        alpha=np.array([1], np.float32),
    )
    assert head.predict(np.array([[3, 6], [1, 2]], np.float32)).tolist() == [[16], [5]]
