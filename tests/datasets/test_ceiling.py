"""The noise ceiling is the correlation that a perfect model would reach."""

import numpy as np
import pytest

from wav2bold.datasets.ceiling import (
    BLOCK,
    ceiling,
    others_correlation,
    repeat_correlation,
    shared_share,
    subject_ceiling,
)
from wav2bold.datasets.shards import Bold

VOLUMES = 20_000
SIGNAL_SHARE = np.array([0.0, 0.05, 0.2, 0.5, 0.9])


def simulate(recordings: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What a perfect model predicts, and recordings of which SIGNAL_SHARE of the variance is that."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((VOLUMES, len(SIGNAL_SHARE)))
    noise = rng.standard_normal((recordings, *truth.shape))
    return truth, (np.sqrt(SIGNAL_SHARE) * truth + np.sqrt(1 - SIGNAL_SHARE) * noise).astype(np.float32)


def pearson(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(one[:, v], other[:, v])[0, 1] for v in range(one.shape[1])])


@pytest.mark.parametrize("recordings", [1, 2, 5])
def test_a_perfect_model_reaches_the_ceiling_of_a_mean(recordings: int) -> None:
    truth, measured = simulate(5)
    r = repeat_correlation(list(measured))
    reached = pearson(truth, measured[:recordings].mean(axis=0))
    np.testing.assert_allclose(ceiling(r, recordings)[1:], reached[1:], atol=0.02)


def test_repeats_correlate_by_their_share_of_signal() -> None:
    _, measured = simulate(3)
    np.testing.assert_allclose(repeat_correlation(list(measured)), SIGNAL_SHARE, atol=0.01)


def test_two_recordings_give_numpys_correlation_and_never_less_than_nothing() -> None:
    one, two = (np.random.default_rng(seed).standard_normal((30, 50)).astype(np.float32) for seed in (1, 2))
    expected = np.maximum(pearson(one, two), 0)
    assert (expected == 0).any()
    np.testing.assert_allclose(repeat_correlation([one, two]), expected, atol=1e-6)


def test_the_ceiling_is_closed_form() -> None:
    assert ceiling(0.25, 1) == 0.5
    np.testing.assert_allclose(ceiling([0.5, 1.0, 0.0], 3), [np.sqrt(0.75), 1.0, 0.0])


def test_a_constant_recording_has_no_ceiling() -> None:
    one = np.random.default_rng(0).standard_normal((30, 2)).astype(np.float32)
    two = one.copy()
    two[:, 1] = 4.0
    r = repeat_correlation([one, two])
    np.testing.assert_allclose(r[0], 1.0)
    assert np.isnan(r[1])
    assert np.isnan(repeat_correlation([one[:2], two[:2]])).all()


def as_bold(y: np.ndarray, first_s: float = -4.0) -> Bold:
    t = np.arange(len(y), dtype=np.int32)
    return Bold(t, 2.0 * t + first_s, y)


def test_only_volumes_within_the_story_count() -> None:
    _, (one, two) = simulate(2)
    outside = np.full((2, one.shape[1]), 1e3, np.float32)  # alike, and large: would give a ceiling of 1
    repeats = [as_bold(np.concatenate([outside, y, outside])) for y in (one, two)]
    got = subject_ceiling([repeats], [2.0 * (VOLUMES - 1)])
    np.testing.assert_allclose(got, np.sqrt(repeat_correlation([one, two])), atol=1e-6)


def test_nothing_repeated_gives_no_ceiling() -> None:
    _, (one,) = simulate(1)
    assert np.isnan(subject_ceiling([[as_bold(one)]], [100.0])).all()


@pytest.mark.parametrize("recordings", [2, 3, 10])
def test_the_mean_correlation_is_the_explainable_variance_of_z_scored_repeats(recordings: int) -> None:
    """As computed for repeated test stories: residuals from the mean repeat, corrected for few repeats."""
    rng = np.random.default_rng(2)
    shared = rng.standard_normal((200, 30))
    measured = (shared + rng.standard_normal((recordings, 200, 30))).astype(np.float32)
    z = (measured - measured.mean(axis=1, keepdims=True)) / measured.std(axis=1, keepdims=True)
    explained = 1 - (z - z.mean(axis=0)).var(axis=1).mean(axis=0)
    corrected = explained - (1 - explained) / (recordings - 1)
    np.testing.assert_allclose(repeat_correlation(list(measured)), corrected, atol=1e-5)


EVERYBODY = np.arange(len(SIGNAL_SHARE))


def asked(recordings: np.ndarray) -> list:
    return [lambda y=y: y for y in recordings]


@pytest.mark.parametrize("people", [2, 3, 8])
def test_what_people_share_is_found_from_the_mean_of_others(people: int) -> None:
    truth, measured = simulate(people, seed=people)
    for y, (r, others) in zip(
        measured, others_correlation(asked(measured), [EVERYBODY] * people), strict=True
    ):
        assert (others == people - 1).all()
        # closed form: covariance is the share, and the others' mean has the share and 1 / others of the noise
        expected = SIGNAL_SHARE / np.sqrt(SIGNAL_SHARE + (1 - SIGNAL_SHARE) / (people - 1) + 1e-30)
        np.testing.assert_allclose(r, expected, atol=0.025)
        reached = np.sqrt(np.maximum(shared_share(r, others), 0))
        np.testing.assert_allclose(reached[1:], pearson(truth, y)[1:], atol=0.03)


def test_leaving_one_out_is_numpys_correlation_with_the_mean_of_z_scores() -> None:
    _, measured = simulate(4)
    measured = measured[:, :60] * np.array([1, 5, 20, 0.1])[:, None, None] + 100
    z = (measured - measured.mean(axis=1, keepdims=True)) / measured.std(axis=1, keepdims=True)
    found = others_correlation(asked(measured.astype(np.float32)), [EVERYBODY] * 4)
    for person, (r, _) in enumerate(found):
        np.testing.assert_allclose(r, pearson(z[person], np.delete(z, person, 0).mean(axis=0)), atol=1e-4)


def test_only_people_who_have_a_target_are_averaged() -> None:
    _, measured = simulate(3)
    one, two, three = measured[:, :100]
    three = three.copy()
    three[:, 2] = 7.0  # constant
    found = others_correlation(asked([one, two[:, :3], three]), [np.arange(5), np.arange(3), np.arange(5)])
    assert [list(others) for _, others in found] == [[2, 2, 1, 1, 1], [2, 2, 1], [2, 2, 2, 1, 1]]
    np.testing.assert_allclose(found[0][0][2], np.corrcoef(one[:, 2], two[:, 2])[0, 1], atol=1e-5)
    np.testing.assert_allclose(found[0][0][4], np.corrcoef(one[:, 4], three[:, 4])[0, 1], atol=1e-5)
    assert np.isnan(found[2][0][2])
    alone = others_correlation(asked([one, two[:, :3]]), [np.arange(5), np.arange(3)])
    np.testing.assert_array_equal(np.isnan(alone[0][0]), [False, False, False, True, True])
    assert np.isnan(shared_share(*alone[0])[3:]).all()


def test_many_targets_are_compared_like_few() -> None:
    everybody = np.arange(2 * BLOCK + 100)
    owns = [everybody, everybody[::3], everybody]
    rng = np.random.default_rng(0)
    measured = [rng.standard_normal((9, len(own)), dtype=np.float32) for own in owns]
    few = slice(BLOCK - 4, BLOCK + 5)
    chosen = [np.isin(own, everybody[few]) for own in owns]
    truth = others_correlation(
        asked([y[:, one] for y, one in zip(measured, chosen, strict=True)]),
        [own[one] for own, one in zip(owns, chosen, strict=True)],
    )
    for (r, others), one, (r_few, others_few) in zip(
        others_correlation(asked(measured), owns), chosen, truth, strict=True
    ):
        np.testing.assert_allclose(r[one], r_few, atol=1e-6)
        np.testing.assert_array_equal(others[one], others_few)


def test_the_shared_share_solves_its_equation_and_keeps_its_sign() -> None:
    share, others = np.array([0.05, 0.3, 1.0]), np.array([1, 4, 30])
    r = share / np.sqrt(share + (1 - share) / others)
    np.testing.assert_allclose(shared_share(r, others), share)
    np.testing.assert_allclose(shared_share(-r, others), -share)
    assert shared_share(0.0, 3) == 0
