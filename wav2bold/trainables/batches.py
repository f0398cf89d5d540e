"""In which order stage 2 sees its windows."""

import numpy as np
from numpy.typing import NDArray

Step = tuple[NDArray[np.int64], ...]
"""Rows of the windows of one step of the optimiser, by blocks of consecutive volumes."""
BLOCK = 8
"""Volumes in a block where noise is modelled: 12 s at a TR of 1.5 s, beyond which it hardly remembers."""


def steps_of(story: NDArray[np.str_], batch: int, block: int, random: np.random.Generator) -> list[Step]:
    """One epoch: every row once, in blocks that are shuffled.

    story: (N,) of each row; a story's rows lie together, in time.  batch: rows in a step, or as many whole
    blocks as it holds, at least one.  block: consecutive rows that stay together. Where the first block of a
    story ends is drawn anew each time, so that it and the last may be shorter.
    """
    blocks = _blocks(story, min(block, batch), random)
    order = random.permutation(len(blocks))
    at_once = max(batch // block, 1)
    return [
        tuple(blocks[number] for number in order[first : first + at_once])
        for first in range(0, len(order), at_once)
    ]


def steps_in_epoch(story: NDArray[np.str_], batch: int, block: int) -> int:
    """The most steps that an epoch can have."""
    _, volumes = np.unique(story, return_counts=True)
    block = min(block, batch)
    most = len(story) if block == 1 else int(sum(-(-count // block) + 1 for count in volumes))
    return -(-most // max(batch // block, 1))


def _blocks(story: NDArray[np.str_], block: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    if block == 1:
        return list(np.arange(len(story))[:, None])
    found = []
    for one in dict.fromkeys(story):
        rows = np.flatnonzero(story == one)
        cuts = np.arange(random.integers(1, block + 1), len(rows), block)
        found += np.split(rows, cuts)
    return found
