"""Time in blocks: neighbouring volumes are alike, so blocks are drawn or exchanged, never volumes."""

# T volumes, K blocks, L volumes in a block, R draws

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def rows_of_stories(story: NDArray[np.str_]) -> Iterator[NDArray[np.int64]]:
    """Rows of each story, in time. story: (T,) of each row."""
    for one in dict.fromkeys(story):
        yield np.flatnonzero(story == one)


def whole_blocks(story: NDArray[np.str_], length: int) -> NDArray[np.int64]:
    """Rows of blocks that lie within a story, (K, L); what is left over at a story's end is in none.

    story: (T,) of each row, in time within each.  length: L.
    """
    found = [
        rows[: len(rows) // length * length].reshape(-1, length).astype(np.int64)
        for rows in rows_of_stories(story)
    ]
    return np.concatenate(found)


def resampled_counts(
    story: NDArray[np.str_], length: int, draws: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """How often each draw of a circular block bootstrap takes each row, (R, T); every draw takes T rows.

    story, length: as for `whole_blocks`. A block may begin at any row and goes on at its story's beginning
    where it reaches the end, so that all rows are taken equally often (Politis & Romano 1992).
    """
    begins, lengths = np.zeros((2, len(story)), np.int64)
    order = np.concatenate(list(rows_of_stories(story)))
    first = 0
    for rows in rows_of_stories(story):
        begins[first : first + len(rows)] = first
        lengths[first : first + len(rows)] = len(rows)
        first += len(rows)
    blocks = -(-len(story) // length)
    counts = np.zeros((draws, len(story)), np.float32)
    for number in range(draws):
        start = random.integers(0, len(story), blocks)[:, None]
        places = begins[start] + (start - begins[start] + np.arange(length)) % lengths[start]
        counts[number] = np.bincount(order[places.ravel()[: len(story)]], minlength=len(story))
    return counts


def block_volumes(story: NDArray[np.str_], tr_s: float, seconds: float, least_blocks: int) -> int:
    """Volumes in a block of so many seconds; fewer where there would be less than `least_blocks` blocks.

    story: (T,) of each row. No block is longer than the longest story.
    """
    longest = max(len(rows) for rows in rows_of_stories(story))
    return max(min(round(seconds / tr_s), len(story) // least_blocks, longest), 1)
