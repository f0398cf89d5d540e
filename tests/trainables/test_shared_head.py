"""A shared head is the plain ridge of all people's rows stacked, and stage 2 trains it on the same sum."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge

from wav2bold.datasets.windows import Windows
from wav2bold.trainables.leave_out import ALPHAS
from wav2bold.trainables.noise import WHITE, Clock, NoiseModel, whitener
from wav2bold.trainables.ridge import fit_head
from wav2bold.trainables.scores import pearson
from wav2bold.trainables.shared_head import fit_shared_head
from wav2bold.trainables.torch_head import Criterion, TorchHead

TR_S, STORIES = 1.0, ("bakery", "ferry", "library")
AR = NoiseModel(0.6 ** np.arange(9.0), np.array([0.6, *([0.0] * 7)]))
NOISES = pytest.mark.parametrize("noise", [WHITE, AR], ids=["white", "ar"])
WIDTHS = pytest.mark.parametrize("width", [8, 70], ids=["primal", "kernel"])


def heard(
    width: int, people: int = 3, targets: int = 5, stories: Sequence[str] = STORIES
) -> tuple[np.ndarray, Windows]:
    """Features, and BOLD of people who lack a story, the beginning of another, or a target's volumes."""
    random = np.random.default_rng(0)
    story = np.repeat(stories, 60 // len(stories))
    stop = (np.concatenate([np.arange(60 // len(stories))] * len(stories)) + 1) * 16_000
    features = 2 + random.standard_normal((60, width)).astype(np.float32)
    signal = (features - 2) @ random.standard_normal((width, targets)) / np.sqrt(width)
    y = np.stack(
        [signal + np.logspace(-1, 1, targets) * random.standard_normal(signal.shape) for _ in range(people)]
    )
    y += np.arange(people)[:, None, None]
    if people > 1:
        y[1, story == stories[0]] = np.nan
        y[2, 40:44] = np.nan
        y[0, 30:33, 0] = np.nan
    flat = np.concatenate(list(y), axis=1).astype(np.float32)
    subject = np.repeat([f"sub-{number}" for number in range(people)], targets)
    return features, Windows(story, stop, flat, subject, 0)


def stacked(
    x: np.ndarray, some: Windows, noise: NoiseModel, column: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One target's rows of all people, made white recording by recording: x, the constant, y, story."""
    people = len(set(some.subject))
    parts = []
    for own in some.y.reshape(len(x), people, -1)[:, :, column].T:
        for story in dict.fromkeys(some.story):
            rows = np.flatnonzero((some.story == story) & np.isfinite(own))
            if len(rows):
                white = whitener(noise, some.stop[rows] / 16_000)
                parts.append(
                    (white @ x[rows], white @ np.ones(len(rows)), white @ own[rows], some.story[rows])
                )
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def ridge(x: np.ndarray, constant: np.ndarray, y: np.ndarray, alpha: float) -> np.ndarray:
    """Weights and, last, what multiplies the constant, which costs nothing: the normal equations."""
    design = np.column_stack([x, constant])
    penalty = np.diag([*[alpha] * x.shape[1], 0.0])
    return np.linalg.solve(design.T @ design + penalty, design.T @ y)


@WIDTHS
def test_in_white_noise_it_is_scikit_learns_ridge_of_all_rows_stacked(width: int) -> None:
    features, some = heard(width)
    head = fit_shared_head(features, some, TR_S)
    x = (features.astype(np.float64) - head.mean) / head.sd
    for column in range(5):
        rows, _, y, _ = stacked(x, some, WHITE, column)
        assert len(rows) == 60 * 3 - 20 - 4 - 3 * (column == 0)
        truth = Ridge(alpha=float(head.alpha[column])).fit(rows, y)
        np.testing.assert_allclose(head.weight[:, column], truth.coef_, atol=1e-4)
        assert head.bias[column] == pytest.approx(truth.intercept_, abs=1e-4)


@NOISES
@WIDTHS
def test_whatever_the_noise_it_solves_the_normal_equations_of_all_recordings(
    width: int, noise: NoiseModel
) -> None:
    features, some = heard(width)
    head = fit_shared_head(features, some, TR_S, noise, head_l2=3.0)
    x = (features.astype(np.float64) - head.mean) / head.sd
    for column in range(5):
        rows, constant, y, _ = stacked(x, some, noise, column)
        truth = ridge(rows, constant, y, float(head.alpha[column]))
        np.testing.assert_allclose(head.weight[:, column], truth[:-1], atol=1e-4)
        assert head.bias[column] == pytest.approx(truth[-1], abs=1e-4)


@NOISES
@WIDTHS
def test_the_penalty_is_the_one_that_predicts_all_peoples_stories_left_out_best(
    width: int, noise: NoiseModel
) -> None:
    features, some = heard(width)
    head = fit_shared_head(features, some, TR_S, noise)
    x = (features.astype(np.float64) - head.mean) / head.sd
    for column in range(5):
        rows, constant, y, story = stacked(x, some, noise, column)
        scores = np.zeros(len(ALPHAS))
        for held in (story == one for one in STORIES):
            for number, alpha in enumerate(ALPHAS):
                weights = ridge(rows[~held], constant[~held], y[~held], alpha)
                predicted = rows[held] @ weights[:-1]
                one = constant[held, None]  # without the constant: of white noise's 1 that is Pearson's r
                told, truth = (
                    values - one[:, 0] * np.linalg.lstsq(one, values, rcond=None)[0]
                    for values in (predicted, y[held])
                )
                scores[number] += told @ truth / np.linalg.norm(told) / np.linalg.norm(truth) / 3
                if noise is WHITE:
                    r = stats.pearsonr(predicted, y[held]).statistic
                    assert told @ truth / np.linalg.norm(told) / np.linalg.norm(truth) == pytest.approx(r)
        chosen = ALPHAS.index(head.alpha[column])
        assert scores[chosen] == pytest.approx(scores.max(), abs=1e-6)
    assert len(set(head.alpha)) > 1


@WIDTHS
def test_of_one_person_it_is_that_persons_own(width: int) -> None:
    features, some = heard(width, people=1)
    head, own = fit_shared_head(features, some, TR_S), fit_head(features, some.y, some.story)
    for name, value in vars(own).items():
        np.testing.assert_allclose(getattr(head, name), value, atol=1e-5)


def test_of_people_who_heard_the_same_it_is_the_ridge_of_their_mean_at_a_share_of_the_penalty() -> None:
    features, some = heard(8, people=1)
    random = np.random.default_rng(1)
    apart = random.standard_normal((4, 60, 5)).astype(np.float32)
    y = some.y + apart - apart.mean(0)
    together = Windows(some.story, some.stop, np.concatenate(list(y), axis=1), np.repeat(list("abcd"), 5), 0)
    head = fit_shared_head(features, together, TR_S)
    x = (features.astype(np.float64) - head.mean) / head.sd
    for column in range(5):
        truth = Ridge(alpha=float(head.alpha[column]) / 4).fit(x, some.y[:, column])
        np.testing.assert_allclose(head.weight[:, column], truth.coef_, atol=1e-4)


def test_it_learns_what_people_have_in_common_from_all_of_them() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((260, 40)).astype(np.float32)
    signal = features @ random.standard_normal((40, 5))
    y = np.concatenate([signal[:60] + 20 * random.standard_normal((60, 5)) for _ in range(6)], axis=1)
    _, some = heard(40)
    many = Windows(some.story, some.stop, y.astype(np.float32), np.repeat(list("abcdef"), 5), 0)
    own, shared = fit_head(features[:60], many.y, some.story), fit_shared_head(features[:60], many, TR_S)
    near = [
        np.nanmean(pearson(truth[60:], head.predict(features[60:])))
        for head, truth in ((own, np.tile(signal, 6)), (shared, signal))
    ]
    assert near[1] > near[0] + 0.1


def test_of_a_single_story_stretches_are_left_out_with_a_guard_beside_them() -> None:
    features, some = heard(8, stories=("bakery",), people=1)
    both = Windows(some.story, some.stop, np.tile(some.y, 2), np.repeat(["a", "b"], 5), 0)
    for guard in (0, 4):
        head = fit_shared_head(features, both, TR_S, guard=guard)
        own = fit_head(features, some.y, some.story, guard=guard, alphas=tuple(np.array(ALPHAS) / 2))
        np.testing.assert_allclose(head.alpha, 2 * own.alpha, rtol=1e-6)
        np.testing.assert_allclose(head.weight, own.weight, atol=1e-5)


def test_a_target_that_does_not_vary_in_anybody_has_no_head() -> None:
    features, some = heard(8)
    some.y[:, some.subject == "sub-0"] = 7
    some.y[:, 2::5] = np.where(np.isfinite(some.y[:, 2::5]), 7, np.nan)
    some.y[:, 3::5] = np.nan
    head = fit_shared_head(features, some, TR_S)
    assert (head.alpha == 0).tolist() == [False, False, True, True, False]
    np.testing.assert_array_equal(head.weight[:, 2:4], 0)
    np.testing.assert_array_equal(head.bias[2:4], [7, 0])


@NOISES
def test_stage_2_begins_at_its_minimum(noise: NoiseModel) -> None:
    """Recording by recording, the gradient of what stage 2 trains it on is zero, and nowhere else."""
    features, some = heard(8)
    head = fit_shared_head(features, some, TR_S, noise)
    criterion = Criterion(some.y, some.subject, Clock.of(some, TR_S), noise, "mse", None, torch.device("cpu"))
    blocks = [np.flatnonzero(some.story == story) for story in STORIES]
    trained = TorchHead(head, torch.device("cpu"))

    def gradient() -> list[np.ndarray]:
        told = trained(torch.from_numpy(features))
        cost = (criterion.total(blocks, told) + trained.penalty()) / criterion.count(blocks)
        return [each.numpy() for each in torch.autograd.grad(cost, trained.parameters)]

    assert criterion.count(blocks) == np.isfinite(some.y).sum()
    assert max(np.abs(each).max() for each in gradient()) < 1e-5
    with torch.no_grad():
        trained.parameters[0].mul_(0.9)
    assert max(np.abs(each).max() for each in gradient()) > 1e-3


@NOISES
def test_a_persons_errors_are_those_of_the_shared_predictions(noise: NoiseModel) -> None:
    _, some = heard(8)
    predicted = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    for kind in ("mse", "corr"):
        criterion = Criterion(
            some.y, some.subject, Clock.of(some, TR_S), noise, kind, None, torch.device("cpu")
        )
        blocks = [np.arange(0, 8), np.arange(20, 28)]
        rows = np.concatenate(blocks)
        told = criterion.total(blocks, predicted[rows])
        each = [
            Criterion(
                some.y[:, some.subject == person],
                some.subject[some.subject == person],
                Clock.of(some, TR_S),
                noise,
                kind,
                None,
                torch.device("cpu"),
            ).total(blocks, predicted[rows])
            for person in dict.fromkeys(some.subject)
        ]
        assert float(told) == pytest.approx(float(sum(each)), rel=1e-5)
