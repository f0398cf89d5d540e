"""In which order stage 2 sees its windows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Step = tuple[NDArray[np.int64], ...]
"""Rows of the windows of one step of the optimiser, by blocks of consecutive volumes."""
BLOCK = 8
"""Volumes in a block where noise is modelled: 12 s at a TR of 1.5 s, beyond which it hardly remembers."""


def blocks_of(story: NDArray[np.str_], block: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    """Every row once, in blocks of consecutive rows.

    story: (N,) of each row; a story's rows lie together, in time.  block: rows in a block. Where the first
    one of a story ends is drawn anew each time, so that it and the last may be shorter.
    """
    if block == 1:
        return list(np.arange(len(story))[:, None])
    found = []
    for one in dict.fromkeys(story):
        rows = np.flatnonzero(story == one)
        cuts = np.arange(random.integers(1, block + 1), len(rows), block)
        found += np.split(rows, cuts)
    return found


def most_blocks(story: NDArray[np.str_], block: int) -> int:
    """How many `blocks_of` can give."""
    if block == 1:
        return len(story)
    _, volumes = np.unique(story, return_counts=True)
    return int(sum(-(-count // block) + 1 for count in volumes))


def steps_of(blocks: Sequence[NDArray[np.int64]], at_once: int, random: np.random.Generator) -> list[Step]:
    """One epoch: the blocks shuffled, so many at once."""
    order = random.permutation(len(blocks))
    return [
        tuple(blocks[number] for number in order[first : first + at_once])
        for first in range(0, len(order), at_once)
    ]
