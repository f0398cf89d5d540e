"""Intervals of brain scores hold the truth as often as they say."""

import numpy as np
import pytest
from noises import ar, heard
from scipy import stats

from wav2bold.evaluation.blocks import resampled_counts
from wav2bold.evaluation.intervals import resampled_scores
from wav2bold.trainables import scores

TR_S = 1.5


def one_story(volumes: int) -> np.ndarray:
    return np.full(volumes, "milkyway")


def test_the_score_is_scipys_mean_r_and_each_draw_that_of_its_rows() -> None:
    y, predicted = heard(np.random.default_rng(0), 103, 4, 0.5)
    y = 3 * y + 1000
    found = resampled_scores(y, [predicted, -predicted], one_story(103), TR_S, draws=20, seed=5)
    truth = [stats.pearsonr(y[:, v], predicted[:, v]).statistic for v in range(4)]
    np.testing.assert_allclose(found.scores[:, 0], [np.mean(truth), -np.mean(truth)], atol=1e-10)
    counts = resampled_counts(one_story(103), 103 // 5, 20, np.random.default_rng(5)).astype(int)
    for draw, count in enumerate(counts):
        rows = np.repeat(np.arange(103), count)
        r = [stats.pearsonr(y[rows, v], predicted[rows, v]).statistic for v in range(4)]
        np.testing.assert_allclose(found.draws[draw, :, 0], [np.mean(r), -np.mean(r)], atol=1e-5)


@pytest.mark.parametrize("memory", [(0.4, 0.7), (0.4, 0.9), (0.8, 0.9)])
def test_coverage_is_within_2_points_of_95_percent_on_ten_minutes(memory: tuple[float, float]) -> None:
    """1,000 simulated listeners of 3 targets, which share half of their noise, as a region each."""
    random, people, r = np.random.default_rng(3), 1000, 0.4
    y, signal = heard(random, 400, people, r, memory)
    y, signal = np.repeat(y, 3, axis=1), np.repeat(signal, 3, axis=1)
    y = y + ar(random, 400, 3 * people, memory[0])
    truth = r / np.sqrt(2)
    regions = np.repeat(np.eye(people, dtype=bool), 3, axis=1)
    found = resampled_scores(y, [signal], one_story(400), TR_S, regions, draws=300)
    held = [
        interval.low <= truth <= interval.high
        for interval in (found.interval(0, region) for region in range(people))
    ]
    # 95% +- 2, and twice the standard error of 1,000 simulations
    assert np.mean(held) == pytest.approx(0.95, abs=0.02 + 2 * np.sqrt(0.95 * 0.05 / people))


def test_a_gains_interval_is_narrower_than_if_its_scores_were_drawn_apart() -> None:
    random = np.random.default_rng(4)
    y, signal = heard(random, 400, 50, 0.5)
    before, after = (signal + share * ar(random, 400, 50, 0.7) for share in (0.5, 0.4))
    found = resampled_scores(y, [before, after], one_story(400), TR_S)
    gain, score = found.interval(1, minus=0), found.interval(1)
    assert gain.low < gain.value < gain.high
    assert gain.value == pytest.approx(score.value - found.interval(0).value)
    assert gain.high - gain.low < 0.6 * np.sqrt(2) * (score.high - score.low)


def test_equal_predictions_have_a_gain_of_exactly_0() -> None:
    y, signal = heard(np.random.default_rng(4), 200, 5, 0.5)
    gain = resampled_scores(y, [signal, signal], one_story(200), TR_S).interval(1, minus=0)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_regions_are_scored_by_their_own_targets_and_constant_ones_left_out() -> None:
    y, signal = heard(np.random.default_rng(6), 200, 6, 0.5)
    y[:, 1] = 3.0
    regions = np.array([[True, True, True, False, False, False], [False, True, False, False, False, False]])
    found = resampled_scores(y, [signal], one_story(200), TR_S, regions, draws=50)
    alone = resampled_scores(y[:, [0, 2]], [signal[:, [0, 2]]], one_story(200), TR_S, draws=50)
    np.testing.assert_allclose(found.draws[:, 0, 0], alone.draws[:, 0, 0], atol=1e-6)
    assert np.isnan(found.interval(0, 1).value)
    assert np.isnan(found.interval(0, 1).low)


def test_a_seed_gives_the_same_interval_and_memory_does_not_change_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    y, signal = heard(np.random.default_rng(7), 150, 40, 0.4)
    first = resampled_scores(y, [signal], one_story(150), TR_S, seed=1)
    again = resampled_scores(y, [signal], one_story(150), TR_S, seed=1)
    assert first.interval(0) == again.interval(0)
    assert first.interval(0) != resampled_scores(y, [signal], one_story(150), TR_S, seed=2).interval(0)
    monkeypatch.setattr(scores, "MAX_BYTES", 1)
    np.testing.assert_allclose(
        resampled_scores(y, [signal], one_story(150), TR_S, seed=1).draws, first.draws, atol=1e-6
    )


def test_a_single_block_has_no_interval() -> None:
    y, signal = np.random.default_rng(0).standard_normal((2, 1, 3))
    assert np.isnan(resampled_scores(y, [signal], one_story(1), TR_S).interval(0).low)
