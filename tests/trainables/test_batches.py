"""Every window once an epoch, in blocks of consecutive volumes that are cut anew each time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wav2bold.trainables.batches import blocks_of, most_blocks, steps_of

STORIES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def stories(volumes: list[int]) -> np.ndarray:
    return np.repeat([f"story{number}" for number in range(len(volumes))], volumes)


@given(STORIES, st.integers(1, 6), st.integers(1, 10), st.integers(0, 5))
def test_every_row_comes_once_in_blocks_of_one_story(
    volumes: list[int], at_once: int, block: int, seed: int
) -> None:
    story = stories(volumes)
    random = np.random.default_rng(seed)
    blocks = blocks_of(story, block, random)
    steps = steps_of(blocks, at_once, random)
    rows = np.concatenate([part for step in steps for part in step])
    assert sorted(rows) == list(range(len(story)))
    for step in steps:
        assert len(step) <= at_once
        for part in step:
            assert 1 <= len(part) <= block
            assert len(set(story[part])) == 1
            assert np.all(np.diff(part) == 1)
    assert len(blocks) <= most_blocks(story, block)


def test_blocks_begin_elsewhere_each_time() -> None:
    random = np.random.default_rng(0)
    firsts = {blocks_of(stories([80]), 8, random)[1][0] for _ in range(99)}
    assert firsts == set(range(1, 9))


def test_single_volumes_are_a_permutation() -> None:
    random = np.random.default_rng([3, 1])
    steps = steps_of(blocks_of(stories([7, 4]), 1, random), 4, random)
    order = np.random.default_rng([3, 1]).permutation(11)
    assert [[int(part[0]) for part in step] for step in steps] == [
        list(order[:4]),
        list(order[4:8]),
        list(order[8:]),
    ]
    assert most_blocks(stories([7, 4]), 1) == 11
