"""Subsequence dynamic time warping: how well a query fits anywhere within a document."""

# Q frames of all queries, F frames of a document, D features, N queries

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHORTEST = 5
"""Frames; a query of fewer fits nowhere, as in the reference."""
LEAST_SPAN = 1e-9


def fits(queries_QD: Tensor, starts: NDArray[np.int64], document_FD: Tensor) -> NDArray[np.float32]:
    """How well each of N queries fits into a document, (N,): minus its best alignment's mean cost by frame.

    queries_QD, document_FD: vectors of length 1, one query behind the other.  starts: (N + 1,) of each
    query's frames, and their end. A frame's cost is exp(cosine distance) - 1, scaled to 0 ... 1 over the
    document. Each frame of the query is used once; from one to the next the document goes on by 0, 1 or 2
    frames, and begins and ends anywhere (the asymmetric pattern of dtw-python, open at both ends). 0 for a
    query of less than SHORTEST frames.
    """
    costs_QF = torch.expm1(1 - queries_QD @ document_FD.T).cpu().numpy()
    return np.asarray(-_compiled()(np.ascontiguousarray(costs_QF), starts), np.float32)


@cache
def _compiled() -> Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float64]]:
    """The loop as machine code: a second once in a process, so no cache folder has to be there."""
    from numba import njit

    compiled: Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float64]]
    compiled = njit(nogil=True)(_least_costs)
    return compiled


def _least_costs(costs_QF: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    frames = costs_QF.shape[1]
    before, now = np.empty(frames), np.empty(frames)
    found = np.zeros(len(starts) - 1)
    for query in range(len(starts) - 1):
        first, end = starts[query], starts[query + 1]
        if end - first < SHORTEST:
            continue
        for row in range(first, end):
            low, high = costs_QF[row, 0], costs_QF[row, 0]
            for frame in range(frames):
                low = min(low, costs_QF[row, frame])
                high = max(high, costs_QF[row, frame])
            span = max(high - low, LEAST_SPAN)
            for frame in range(frames):
                least = 0.0
                if row > first:
                    least = before[frame]
                    if frame > 0:
                        least = min(least, before[frame - 1])
                    if frame > 1:
                        least = min(least, before[frame - 2])
                now[frame] = least + (costs_QF[row, frame] - low) / span
            before, now = now, before
        found[query] = before.min() / (end - first)
    return found
