"""How many words or phones differ between what was said and what was told."""

from collections.abc import Sequence

import numpy as np


def edits(truth: Sequence[str], told: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions that make one of the other (Levenshtein's distance).

    A row of the table is made at once: insertions add one a place, so that the least over all of them is a
    running minimum.
    """
    numbers = {token: number for number, token in enumerate({*truth, *told})}
    told_T = np.array([numbers[token] for token in told], np.int64)
    places = np.arange(len(told) + 1)
    row = places.copy()
    for token in truth:
        moved = row + 1
        moved[1:] = np.minimum(moved[1:], row[:-1] + (told_T != numbers[token]))
        row = np.minimum.accumulate(moved - places) + places
    return int(row[-1])
