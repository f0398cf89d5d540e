"""Every window once an epoch, in blocks of consecutive volumes that are cut anew each time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wav2bold.trainables.batches import steps_in_epoch, steps_of

STORIES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def stories(volumes: list[int]) -> np.ndarray:
    return np.repeat([f"story{number}" for number in range(len(volumes))], volumes)


@given(STORIES, st.integers(1, 40), st.integers(1, 10), st.integers(0, 5))
def test_every_row_comes_once_in_blocks_of_one_story(
    volumes: list[int], batch: int, block: int, seed: int
) -> None:
    story = stories(volumes)
    steps = steps_of(story, batch, block, np.random.default_rng(seed))
    rows = np.concatenate([part for step in steps for part in step])
    assert sorted(rows) == list(range(len(story)))
    for step in steps:
        assert sum(len(part) for part in step) <= batch
        for part in step:
            assert 1 <= len(part) <= block
            assert len(set(story[part])) == 1
            assert np.all(np.diff(part) == 1)
    assert len(steps) <= steps_in_epoch(story, batch, block)


def test_blocks_begin_elsewhere_each_time() -> None:
    story = stories([80])
    random = np.random.default_rng(0)
    firsts = {
        min(part[0] for step in steps_of(story, 8, 8, random) for part in step if part[0]) for _ in range(99)
    }
    assert firsts == set(range(1, 9))


def test_single_volumes_are_a_permutation() -> None:
    steps = steps_of(stories([7, 4]), 4, 1, np.random.default_rng([3, 1]))
    order = np.random.default_rng([3, 1]).permutation(11)
    assert [[int(part[0]) for part in step] for step in steps] == [
        list(order[:4]),
        list(order[4:8]),
        list(order[8:]),
    ]
    assert steps_in_epoch(stories([7, 4]), 4, 1) == 3
