"""Loudness, lags and thinning against plain loops, numpy and closed forms."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm

from wav2bold.datasets.inspecting.signals import (
    change,
    clear_peak,
    envelope,
    lagged_correlation,
    thinned,
    zscored,
)

RATE_HZ = 16_000


def test_envelope_is_the_root_mean_square_of_the_tr_up_to_each_volume() -> None:
    audio = np.random.default_rng(0).standard_normal(10 * RATE_HZ).astype(np.float32)
    time_s = np.array([-1.0, 1.0, 2.0, 5.3, 10.0, 10.5])
    got = envelope(audio, time_s, 2.0)
    assert np.isnan(got[[0, 1, 5]]).all()
    for place in (2, 3, 4):
        stop = round(time_s[place] * RATE_HZ)
        heard = audio[stop - 2 * RATE_HZ : stop].astype(np.float64)
        assert got[place] == pytest.approx(np.sqrt(np.mean(heard**2)))


def test_envelope_hears_nothing_after_the_volume() -> None:
    audio = np.zeros(4 * RATE_HZ, np.float32)
    audio[2 * RATE_HZ :] = 1.0
    assert envelope(audio, np.array([2.0, 4.0]), 2.0).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("lag", [-3, 0, 4])
def test_a_shift_is_found_at_its_lag(lag: int) -> None:
    sound = np.random.default_rng(1).standard_normal(200)
    follows = np.roll(sound, lag) + 0.1 * np.random.default_rng(2).standard_normal(200)
    lags = np.arange(-6, 7)
    r = lagged_correlation(sound, follows, lags)
    assert lags[np.argmax(r)] == lag
    shifted = pd.Series(follows).shift(-lag)
    assert r[np.argmax(r)] == pytest.approx(pd.Series(sound).corr(shifted))
    assert clear_peak(r, 200) == lag + 6


def test_gaps_and_constants_have_no_correlation() -> None:
    with_gap = np.array([1.0, 3.0, np.nan, 2.0, 5.0, 4.0])
    other = np.array([2.0, 1.0, 7.0, np.nan, 3.0, 6.0])
    both = [0, 1, 4, 5]
    expected = np.corrcoef(with_gap[both], other[both])[0, 1]
    assert lagged_correlation(with_gap, other, [0])[0] == pytest.approx(expected)
    assert np.isnan(lagged_correlation(np.ones(9), np.arange(9.0), [0, 1])).all()
    assert np.isnan(lagged_correlation(with_gap, other, [5])).all()
    assert clear_peak(np.full(3, np.nan), 100) is None


def test_noise_has_no_clear_peak() -> None:
    random = np.random.default_rng(3)
    found = [
        clear_peak(lagged_correlation(*random.standard_normal((2, 300)), np.arange(-4, 13)), 300)
        for _ in range(200)
    ]
    beyond = 17 * norm.sf(3)  # of so many lags
    assert sum(peak is not None for peak in found) <= binom.isf(1e-3, 200, beyond)


def test_change_is_the_root_mean_square_difference() -> None:
    y = np.random.default_rng(4).standard_normal((12, 7)).astype(np.float32)
    got = change(y)
    assert np.isnan(got[0])
    assert got[1:] == pytest.approx(
        [np.sqrt(np.mean((y[t] - y[t - 1]) ** 2)) for t in range(1, 12)], rel=1e-5
    )


def test_thinning_keeps_order_and_never_loses_the_largest_change() -> None:
    changes = np.random.default_rng(5).random(1003)
    changes[0] = np.nan
    changes[517] = 9.0
    kept = thinned(changes, 100)
    assert len(kept) <= 100
    assert (np.diff(kept) > 0).all()
    assert 517 in kept
    assert thinned(changes, 2000).tolist() == list(range(1003))


def test_zscores_leave_gaps_and_constants_alone() -> None:
    got = zscored(np.array([1.0, np.nan, 3.0, 5.0]))
    assert np.isnan(got[1])
    assert np.nanmean(got) == pytest.approx(0)
    assert np.nanstd(got) == pytest.approx(1)
    assert zscored(np.full(4, 7.0)).tolist() == [0.0] * 4
