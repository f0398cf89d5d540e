"""Intervals over test utterances hold what theory says, paired and by speaker."""

import math

import numpy as np
import pytest
from scipy import stats

from wav2bold.evaluation.utterances import utterance_interval
from wav2bold.trainables.superb.protocol import Score


def score_of(
    parts: np.ndarray,
    wholes: np.ndarray | None = None,
    unit: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> Score:
    number = len(parts)
    return Score(
        task="ks",
        metric="accuracy",
        higher_is_better=True,
        parts=parts.astype(float),
        wholes=np.ones(number) if wholes is None else wholes.astype(float),
        unit=np.arange(number).astype(str) if unit is None else unit,
        fold=np.zeros(number, np.int64) if fold is None else fold,
        rates=(1e-3,),
        dev=({1e-3: 0.5},),
        weights=np.full(3, 1 / 3),
        lengths=np.ones(3),
    )


def half_width(interval: object) -> float:
    return (interval.high - interval.low) / 2


def test_the_interval_of_an_accuracy_is_the_binomials() -> None:
    right = np.random.default_rng(0).random(900) < 0.7
    interval = utterance_interval(score_of(right), draws=4000)
    share = right.mean()
    truth = stats.t.ppf(0.975, 899) * math.sqrt(share * (1 - share) / 900)
    assert interval.value == pytest.approx(share)
    assert half_width(interval) == pytest.approx(truth, rel=0.05)  # 4,000 draws: their sd to 1.1%


def test_speakers_are_drawn_with_all_their_utterances() -> None:
    random = np.random.default_rng(1)
    skill = random.random(40) < 0.5
    right, speaker = np.repeat(skill, 25), np.repeat(np.arange(40), 25).astype(str)
    interval = utterance_interval(score_of(right, unit=speaker), draws=4000)
    truth = stats.t.ppf(0.975, 39) * skill.std(ddof=1) / math.sqrt(40)
    assert half_width(interval) == pytest.approx(truth, rel=0.06)
    assert half_width(interval) > 4 * half_width(utterance_interval(score_of(right)))


def test_the_change_is_paired() -> None:
    random = np.random.default_rng(2)
    before = random.random(800) < 0.6
    after = before ^ (random.random(800) < 0.02)
    change = utterance_interval(score_of(after), score_of(before), draws=4000)
    difference = after.astype(float) - before
    truth = stats.t.ppf(0.975, 799) * difference.std(ddof=1) / math.sqrt(800)
    assert change.value == pytest.approx(difference.mean())
    assert half_width(change) == pytest.approx(truth, rel=0.06)
    same = utterance_interval(score_of(before), score_of(before.copy()))
    assert (same.low, same.high) == (0, 0)


def test_errors_by_words_weigh_long_utterances_more() -> None:
    wrong, words = np.array([1, 4, 0, 9]), np.array([10, 8, 2, 20])
    assert score_of(wrong, words).value == pytest.approx(14 / 40)
    random = np.random.default_rng(3)
    words = random.integers(5, 30, 600)
    wrong = random.binomial(words, 0.1)
    interval = utterance_interval(score_of(wrong, words), draws=4000)
    ratio = wrong.sum() / words.sum()
    truth = 1.96 * np.std(wrong - ratio * words, ddof=1) / math.sqrt(600) / words.mean()  # the delta method
    assert half_width(interval) == pytest.approx(truth, rel=0.07)


def test_folds_count_alike_and_are_drawn_within() -> None:
    fold = np.repeat([0, 1], [300, 20])
    right = np.concatenate([np.ones(300), np.zeros(20)])
    interval = utterance_interval(score_of(right, fold=fold))
    assert interval.value == 0.5
    assert (interval.low, interval.high) == (0.5, 0.5), "within a fold all are alike"


def test_what_was_tested_on_other_utterances_or_one_has_no_interval() -> None:
    one, other = score_of(np.ones(5)), score_of(np.zeros(4))
    assert math.isnan(utterance_interval(one, other).low)
    assert math.isnan(utterance_interval(score_of(np.ones(1))).low)
