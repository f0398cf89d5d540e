"""Blocks of time: whole, within stories, and drawn so that every volume counts the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2bold.evaluation.blocks import block_volumes, resampled_counts, whole_blocks

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def story_of(sizes: list[int]) -> np.ndarray:
    return np.repeat([f"s{number}" for number in range(len(sizes))], sizes)


@given(lengths, st.integers(1, 12))
def test_a_block_is_consecutive_and_within_a_story_and_no_row_is_in_two(
    sizes: list[int], length: int
) -> None:
    story = story_of(sizes)
    rows = whole_blocks(story, length)
    assert (np.diff(rows, axis=1) == 1).all()
    assert all(len(set(story[row])) == 1 for row in rows)
    assert len(set(rows.ravel())) == rows.size
    assert len(story) - rows.size == sum(size % length for size in sizes)


@given(lengths, st.integers(1, 12), st.integers(0, 100))
def test_every_draw_takes_as_many_rows_as_there_are(sizes: list[int], length: int, seed: int) -> None:
    counts = resampled_counts(story_of(sizes), length, 5, np.random.default_rng(seed))
    assert (counts.sum(1) == sum(sizes)).all()
    assert (counts >= 0).all()


def test_every_row_is_taken_equally_often_also_at_a_storys_ends() -> None:
    counts = resampled_counts(story_of([30, 50]), 10, 20_000, np.random.default_rng(0))
    # a row is in 10 of 80 possible blocks, 8 are drawn: mean 1, variance 8 * 1/8 * 7/8
    assert np.abs(counts.mean(0) - 1).max() < 5 * np.sqrt(7 / 8 / 20_000)


def test_neighbours_are_drawn_together_and_other_stories_apart() -> None:
    counts = resampled_counts(story_of([40, 40]), 10, 4000, np.random.default_rng(1))
    together = np.corrcoef(counts.T)
    assert together[4, 5] > 0.85
    assert together[0, 39] > 0.85, "circular: the end goes on at the beginning"
    # no neighbours: of counts that add up, one falls as the other rises
    assert together[39, 40] == pytest.approx(-1 / 7, abs=0.05)


def test_rows_of_interleaved_stories_are_found() -> None:
    story = np.array(["a", "b"] * 20)
    counts = resampled_counts(story, 5, 2000, np.random.default_rng(2))
    assert np.corrcoef(counts.T)[0, 2] > 0.7
    assert abs(np.corrcoef(counts.T)[0, 1]) < 0.2


def test_a_block_lasts_as_asked_unless_there_would_be_too_few() -> None:
    assert block_volumes(story_of([400]), 1.5, 60, 5) == 40
    assert block_volumes(story_of([120]), 1.5, 60, 5) == 24
    assert block_volumes(story_of([10] * 30), 1.5, 60, 5) == 10
    assert block_volumes(story_of([3]), 1.5, 60, 5) == 1
