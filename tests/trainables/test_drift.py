"""Drift leaves features as it left BOLD, also while they change."""

import numpy as np
import pytest
import torch
from listeners import in_memory, volumes

from wav2bold.config import Cleaning
from wav2bold.datasets.windows import Windows, windows
from wav2bold.trainables.drift import Drift, FollowedDrift

CLEANING = {"detrend": True, "high_pass_s": 128.0}


def heard(onset_s: float = 0.0) -> Windows:
    """Two stories of 5 and 4 minutes, one of which a subject heard later."""
    y = np.random.default_rng(0).standard_normal((201, 2))
    shards = in_memory(
        {"ferry": 300.0, "bakery": 240.0},
        {("sub-001", "ferry"): volumes(y, 1.5), ("sub-001", "bakery"): volumes(y[:170], 1.5, onset_s)},
        1.5,
    )
    return windows(shards, ["sub-001"], ["ferry", "bakery"], 6)


def slow(some: Windows, seed: int = 0) -> np.ndarray:
    """Per story a constant, a line and cosines slower than 128 s, of random sizes, (N, 5)."""
    random = np.random.default_rng(seed)
    features = np.zeros((len(some), 5), np.float32)
    for story in np.unique(some.story):
        rows = some.story == story
        time_s = some.stop[rows] / 16_000
        place = (time_s - time_s[0]) / (time_s[-1] - time_s[0])
        length_s = time_s[-1] - time_s[0]
        terms = [np.ones_like(place), place]
        terms += [np.cos(np.pi * k * place) for k in range(1, 10) if 2 * length_s / k >= 128]
        features[rows] = np.stack(terms, axis=1) @ random.standard_normal((len(terms), 5))
    return features


def test_what_is_only_drift_vanishes() -> None:
    some = heard(onset_s=7.3)
    features = slow(some)
    assert features.std() > 0.3
    assert np.abs(Drift(some, CLEANING).removed(features)).max() < 1e-4


def test_what_is_faster_than_the_filter_stays() -> None:
    """A wave of 20 s: all but a hundredth of its power."""
    some = heard()
    wave = np.sin(2 * np.pi * some.stop / 16_000 / 20)[:, None].astype(np.float32)
    left = Drift(some, CLEANING).removed(wave)
    assert np.mean(left**2) > 0.98 * np.mean(wave**2)


def test_taking_drift_out_twice_changes_nothing_more() -> None:
    some = heard()
    drift = Drift(some, CLEANING)
    features = np.random.default_rng(0).standard_normal((len(some), 4)).astype(np.float32)
    once = drift.removed(features)
    np.testing.assert_allclose(drift.removed(once), once, atol=1e-5)


def test_a_story_is_untouched_by_another_ones_drift() -> None:
    some = heard()
    drift = Drift(some, CLEANING)
    ferry = some.story == "ferry"
    features = np.random.default_rng(0).standard_normal((len(some), 4)).astype(np.float32)
    other = features + np.where(ferry, 0, 100 * some.stop / some.stop.max())[:, None].astype(np.float32)
    np.testing.assert_allclose(drift.removed(other)[ferry], drift.removed(features)[ferry], atol=1e-6)


def test_a_straight_line_alone_is_taken_out_where_only_trends_were() -> None:
    some = heard()
    drift = Drift(some, {"detrend": True, "high_pass_s": None})
    line = np.polyval([3, 2], some.stop / some.stop.max())[:, None].astype(np.float32)
    assert np.abs(drift.removed(line)).max() < 1e-4
    features = slow(some)
    assert np.abs(drift.removed(features)).max() > 0.1


def test_nothing_is_taken_out_where_bold_was_not_filtered() -> None:
    some = heard()
    drift = Drift(some, Cleaning(high_pass_s=None, detrend=False).model_dump(mode="json"))
    features = slow(some) + 5
    assert drift.terms.shape == (len(some), 0)
    np.testing.assert_array_equal(drift.removed(features), features)
    followed = FollowedDrift(drift, features)
    rows = np.array([3, 1, 2])
    batch = torch.from_numpy(features[rows])
    np.testing.assert_array_equal(followed.removed(rows, batch).numpy(), features[rows])


def test_followed_drift_is_the_same_while_nothing_changes() -> None:
    some = heard()
    drift = Drift(some, CLEANING)
    features = slow(some) + np.random.default_rng(0).standard_normal((len(some), 5)).astype(np.float32)
    followed = FollowedDrift(drift, features)
    order = np.random.default_rng(1).permutation(len(some))
    for rows in np.array_split(order, 9):
        now = followed.removed(rows, torch.from_numpy(features[rows]))
        np.testing.assert_allclose(now.numpy(), drift.removed(features)[rows], atol=1e-4)


def test_followed_drift_is_that_of_the_features_as_they_became() -> None:
    some = heard()
    drift = Drift(some, CLEANING)
    random = np.random.default_rng(0)
    features = random.standard_normal((len(some), 5)).astype(np.float32)
    followed = FollowedDrift(drift, features)
    current = features.copy()
    for _ in range(60):
        rows = random.choice(len(some), 8, replace=False)
        current[rows] += random.standard_normal((8, 5)).astype(np.float32) + 2
        now = followed.removed(rows, torch.from_numpy(current[rows]))
        np.testing.assert_allclose(now.numpy(), drift.removed(current)[rows], atol=2e-4)
    assert np.abs(current - features).max() > 5


def test_following_drift_leaves_the_given_features_alone() -> None:
    some = heard()
    features = np.ones((len(some), 3), np.float32)
    FollowedDrift(Drift(some, CLEANING), features).removed(np.array([0, 1]), torch.zeros(2, 3))
    assert (features == 1).all()


def test_drift_carries_no_gradient() -> None:
    some = heard()
    followed = FollowedDrift(Drift(some, CLEANING), np.zeros((len(some), 3), np.float32))
    batch = torch.randn(4, 3, requires_grad=True)
    followed.removed(np.arange(4), batch).sum().backward()
    assert batch.grad.tolist() == [[1.0] * 3] * 4


@pytest.mark.parametrize("high_pass_s", [100.0, 128.0, 500.0])
def test_terms_are_orthonormal(high_pass_s: float) -> None:
    terms = Drift(heard(), {"detrend": True, "high_pass_s": high_pass_s}).terms
    np.testing.assert_allclose(terms.T @ terms, np.eye(terms.shape[1]), atol=1e-5)
