"""The noise model against statsmodels, and what whitens against generalised least squares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from listeners import in_memory, noise_listeners
from scipy.linalg import block_diag, toeplitz
from scipy.signal import lfilter
from sklearn.linear_model import Ridge

from wav2bold.config import Configuration
from wav2bold.datasets.windows import Windows, windows
from wav2bold.trainables.leave_out import ALPHAS
from wav2bold.trainables.noise import WHITE, Clock, NoiseModel, fit_noise, groups_of, whitened, whitener
from wav2bold.trainables.scores import pearson
from wav2bold.trainables.stage1 import fit_head_in_noise, fit_noise_of, solve_stage1

TR_S = 1.5


def autoregression(coefficients: list[float], volumes: int, targets: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    y = np.zeros((volumes + 300, targets))
    for t in range(len(coefficients), len(y)):
        past = sum(share * y[t - lag] for lag, share in enumerate(coefficients, start=1))
        y[t] = past + random.standard_normal(targets)
    return y[300:]


def autocorrelation(coefficients: list[float], lags: int) -> np.ndarray:
    """Of what these do to a single knock: its products with itself, moved."""
    knock = np.zeros(5000)
    knock[0] = 1
    answer = lfilter([1], [1, *(-np.array(coefficients))], knock)
    products = np.array([answer[lag:] @ answer[: len(answer) - lag] for lag in range(lags)])
    return products / products[0]


def clock(volumes: list[int]) -> Clock:
    """Stories of so many volumes each."""
    story = np.repeat([f"story{number}" for number in range(len(volumes))], volumes)
    return Clock(story, np.concatenate([np.arange(count, dtype=float) + 6 for count in volumes]))


@pytest.mark.parametrize("coefficients", [[0.9], [0.5, 0.3], [0.4, -0.2, 0.3]], ids=str)
def test_what_is_fitted_is_the_autoregression_that_made_the_noise(coefficients: list[float]) -> None:
    noise = fit_noise(autoregression(coefficients, 1500, 40), clock([800, 700]), shrink=1.0)
    wanted = np.pad(coefficients, (0, 8 - len(coefficients)))
    np.testing.assert_allclose(noise.coefficients, wanted, atol=0.02)
    np.testing.assert_allclose(noise.at(40), autocorrelation(coefficients, 40), atol=0.04)


def test_lags_beyond_the_order_follow_the_autoregression_exactly() -> None:
    truth = autocorrelation([0.6, 0.2], 30)
    noise = NoiseModel(truth[:9], np.array([0.6, 0.2, 0, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(noise.at(30), truth, atol=1e-12)
    np.testing.assert_array_equal(noise.at(3), truth[:3])


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=25, unique=True),
    st.floats(-0.9, 0.95),
    st.floats(0, 0.99),
)
def test_noise_of_any_volumes_becomes_white(places: list[int], coefficient: float, began_tr: float) -> None:
    """Also with gaps between them, and wherever the recording's clock began."""
    correlation = coefficient ** np.arange(9.0)
    noise = NoiseModel(correlation, np.array([coefficient, *([0.0] * 7)]))
    place = np.sort(places)
    a = whitener(noise, place + began_tr)
    truth = coefficient ** np.abs(place[:, None] - place[None, :]).astype(float)
    np.testing.assert_allclose(a @ truth @ a.T, np.eye(len(place)), atol=1e-6)
    assert np.all(np.triu(a, 1) == 0)


def test_volumes_of_two_clocks_don_t_know_of_each_other() -> None:
    noise = NoiseModel(0.8 ** np.arange(9.0), np.array([0.8, *([0.0] * 7)]))
    time_tr = np.array([0, 0.5, 1, 1.5, 2])
    a = whitener(noise, time_tr)
    assert np.all(a[np.ix_([0, 2, 4], [1, 3])] == 0)
    np.testing.assert_allclose(a[np.ix_([0, 2, 4], [0, 2, 4])], whitener(noise, time_tr[[0, 2, 4]]))


def test_white_noise_is_found_to_be_nearly_white_and_whitens_to_itself() -> None:
    told = clock([900, 900])
    noise = fit_noise(np.random.default_rng(0).standard_normal((1800, 50)), told)
    assert np.abs(noise.correlation[1:]).max() < 0.02
    assert WHITE.is_white
    assert not noise.is_white
    values = np.ones((1800, 2))
    assert whitened(WHITE, told, [np.arange(1800)], values) is values


def test_targets_that_were_not_measured_everywhere_count_where_they_were() -> None:
    told = clock([1000, 1000])
    residuals = autoregression([0.7], 2000, 30)
    residuals[1000:, :10] = np.nan
    residuals[300:310] = np.nan
    residuals[:, 29] = 0.0
    noise = fit_noise(residuals, told, shrink=1.0)
    np.testing.assert_allclose(noise.coefficients, [0.7, 0, 0, 0, 0, 0, 0, 0], atol=0.03)
    assert fit_noise(np.full((2000, 3), np.nan), told) is WHITE
    groups = groups_of(residuals, told.story)
    assert sorted(len(group.columns) for group in groups) == [1, 10, 19]
    assert sorted(len(group.recordings) for group in groups) == [1, 2, 2]


def some_windows(seed: int, coefficient: float) -> tuple[Windows, np.ndarray, np.ndarray]:
    """BOLD of one listener, features that it follows, and the truth in how it does."""
    stories = ("ferry", "bakery", "library")
    shards = in_memory(
        dict.fromkeys(stories, 240.0), noise_listeners(stories, 240.0, TR_S, {"sub-1": 12}), TR_S
    )
    some = windows(shards, ["sub-1"], stories, 2)
    random = np.random.default_rng(seed)
    features = random.standard_normal((len(some), 7))
    weight = random.standard_normal((7, 12))
    noise = np.concatenate(
        [autoregression([coefficient], int((some.story == one).sum()), 12, seed + 1) for one in stories]
    )
    y = features @ weight + 4 * noise * np.sqrt(1 - coefficient**2)
    return (
        Windows(some.story, some.stop, y.astype(np.float32), some.subject, 0),
        features.astype(np.float32),
        weight,
    )


def test_ridge_in_noise_is_generalised_least_squares() -> None:
    """At the penalty chosen: scikit-learn's ridge on what the inverse Cholesky factor of R makes white."""
    some, features, _ = some_windows(0, 0.8)
    noise = NoiseModel(0.8 ** np.arange(9.0), np.array([0.8, *([0.0] * 7)]))
    head = fit_head_in_noise(features, some, TR_S, noise)
    x = (features - features.mean(0)) / features.std(0)
    volumes = [int((some.story == one).sum()) for one in dict.fromkeys(some.story)]
    r = block_diag(*(toeplitz(0.8 ** np.arange(count)) for count in volumes))
    a = np.linalg.inv(np.linalg.cholesky(r))
    for v in range(12):
        assert head.alpha[v] in np.float32(ALPHAS)
        ridge = Ridge(alpha=float(head.alpha[v]))
        ridge.fit(a @ x, a @ (some.y[:, v] - some.y[:, v].mean()))
        np.testing.assert_allclose(head.weight[:, v], ridge.coef_, atol=1e-4)


def test_ridge_in_noise_comes_nearer_to_the_truth_than_plain_ridge() -> None:
    errors = {"plain": [], "noise": []}
    for seed in range(8):
        some, features, weight = some_windows(10 * seed, 0.9)
        noise = fit_noise_of(features, some, TR_S)
        assert 0.6 < noise.correlation[1] < 0.9  # what ridge misses of the signal is white here
        for name, model in (("plain", WHITE), ("noise", noise)):
            head = fit_head_in_noise(features, some, TR_S, model)
            errors[name].append(np.mean((head.weight / head.sd[:, None] - weight) ** 2))
    assert np.mean(errors["noise"]) < 0.5 * np.mean(errors["plain"])


def test_of_a_single_story_the_penalty_is_chosen_with_a_guard_of_a_history() -> None:
    """By hand: five stretches of what is white, and no row trained on that was heard in part with one."""
    random = np.random.default_rng(5)
    heard, rows = random.standard_normal((205, 2)), np.arange(200)
    features = np.concatenate([heard[lag : lag + 200] for lag in range(6)], axis=1).astype(np.float32)
    y = 0.3 * random.standard_normal((200, 30)).cumsum(0) + random.standard_normal((200, 30))
    y = y.astype(np.float32)
    story, stop = np.repeat("bakery", 200), (rows + 6) * 24_000
    some = Windows(story, stop, y, np.repeat("sub-1", 30), 0)
    head, noise = solve_stage1(features, some, TR_S, Configuration(history=6), 0)
    white = whitener(noise, rows.astype(float))
    x = white @ (features - features.mean(0)) / features.std(0)
    white_y = white @ (y - y.mean(0))
    scores = {guard: np.zeros((len(ALPHAS), 30)) for guard in (0, 6)}
    for guard, of_guard in scores.items():
        for held in np.split(rows, 5):
            train = (rows < held[0] - guard) | (rows > held[-1] + guard)
            for number, alpha in enumerate(ALPHAS):
                told = Ridge(alpha=alpha).fit(x[train], white_y[train]).predict(x[held])
                of_guard[number] += pearson(white_y[held], told) / 5
    chosen = np.searchsorted(np.float32(ALPHAS), head.alpha), np.arange(30)
    np.testing.assert_allclose(scores[6][chosen], scores[6].max(0), atol=1e-4)
    assert (scores[0][chosen] < scores[0].max(0) - 1e-3).any()
