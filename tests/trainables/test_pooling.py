"""Each way of pooling is the average that it says, and none reaches beyond the window."""

from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2bold.config import Pooling
from wav2bold.datasets.windows import window_length
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.pooling import pooling

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class Base:
    """A published encoder's frames: one begins every 20 ms and hears 25."""

    stride, receptive_field = 320, 400
    frames = Encoder.frames


def matrix(tr_ms: int, history: int, kind: Pooling) -> np.ndarray:
    frames = Base().frames(window_length(tr_ms / 1000, history))
    return pooling(Base(), frames, history, tr_ms / 1000, kind)


@given(tr_ms=st.integers(300, 3000), history=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_a_frame_is_averaged_in_the_tr_of_its_middle(
    tr_ms: int,
    history: int,
) -> None:
    pool = matrix(tr_ms, history, "tr")
    frames = (round(Fraction(history * tr_ms * 16)) - 400) // 320 + 1
    assert pool.shape == (history, frames)
    np.testing.assert_allclose(pool.sum(1), 1, atol=1e-5)
    assert ((pool > 0).sum(0) == 1).all()  # every frame once
    for row in pool:
        assert len(set(row[row > 0])) == 1  # all frames of a TR alike
    edges = [Fraction(200 + 320 * frame, 16 * tr_ms) for frame in range(frames)]
    away = [abs(edge - round(edge)) for edge in edges]
    clear = [frame for frame in range(frames) if away[frame] > Fraction(1, 10**9)]
    assert [int(pool[:, frame].argmax()) for frame in clear] == [int(edges[frame]) for frame in clear]


@given(tr_ms=st.integers(300, 3000), history=st.integers(1, 12), kind=st.sampled_from(POOLINGS))
@settings(max_examples=100, deadline=None)
def test_no_row_weighs_a_frame_that_begins_after_the_window_and_what_is_constant_stays(
    tr_ms: int, history: int, kind: Pooling
) -> None:
    pool = matrix(tr_ms, history, kind)
    assert len(pool) == (history if kind in {"tr", "lanczos"} else 1)
    last_sample = 320 * max(np.flatnonzero(pool.any(0))) + 400
    assert last_sample <= window_length(tr_ms / 1000, history)
    np.testing.assert_allclose(pool @ np.full((pool.shape[1], 2), 3.5), 3.5, rtol=1e-5)


@given(tr_ms=st.integers(300, 3000), history=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_the_mean_is_over_all_and_the_last_is_the_last_tr(tr_ms: int, history: int) -> None:
    frames = np.random.default_rng(tr_ms).standard_normal((matrix(tr_ms, history, "mean").shape[1], 3))
    np.testing.assert_allclose(matrix(tr_ms, history, "mean") @ frames, frames.mean(0)[None], atol=1e-5)
    middle_ms = (320 * np.arange(len(frames)) + 200) / 16
    of_last = frames[middle_ms >= (history - 1) * tr_ms].mean(0)
    np.testing.assert_allclose(matrix(tr_ms, history, "last") @ frames, of_last[None], atol=1e-5)


@given(tr_ms=st.integers(300, 3000), history=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_lanczos_weighs_by_the_textbooks_kernel_around_the_middle_of_a_tr(tr_ms: int, history: int) -> None:
    """sinc(x) sinc(x / 3), x in TRs: for frames within three of them, whatever the row's sum."""
    pool = matrix(tr_ms, history, "lanczos")
    for row, weights in enumerate(pool):
        kernel = []
        for frame in range(pool.shape[1]):
            x = Fraction(320 * frame + 200, 16 * tr_ms) - row - Fraction(1, 2)
            wave = np.pi * float(x)
            bent = 1.0 if x == 0 else np.sin(wave) / wave * np.sin(wave / 3) / (wave / 3)
            kernel.append(bent if abs(x) < 3 else 0.0)
        np.testing.assert_allclose(weights, np.array(kernel) / sum(kernel), atol=1e-6)


def test_lanczos_keeps_what_is_slower_than_the_nyquist_frequency_and_drops_what_is_faster() -> None:
    """In a TR far from both ends, where nothing is cut off: gains of waves of 1/4 and 4/3 periods a TR."""
    tr_ms, history, row = 1500, 12, 6
    time_tr = (320 * np.arange(matrix(tr_ms, history, "tr").shape[1]) + 200) / 16 / tr_ms
    gains = {
        (kind, rate): abs(matrix(tr_ms, history, kind)[row] @ np.exp(2j * np.pi * rate * time_tr))
        for kind in ("tr", "lanczos")
        for rate in (1 / 4, 4 / 3)
    }
    assert gains["lanczos", 1 / 4] == pytest.approx(1, abs=0.03)
    assert gains["lanczos", 4 / 3] < 0.02 < gains["tr", 4 / 3]
