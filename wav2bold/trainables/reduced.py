"""A head of lower rank: few directions of the features, which all targets share."""

# N rows, P features, V targets, R rank

import numpy as np
from numpy.typing import NDArray

from wav2bold.errors import UserError
from wav2bold.trainables.ridge import Head

Factors = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(P, R) and (R, V), whose product is a head's weight."""


def reduced(head: Head, rank: int, features: NDArray[np.float32]) -> Factors:
    """Factors (P, R) and (R, V) whose product, in place of the head's weight, fits as well as rank R can.

    features: (N, P) that the head was fitted to. No weight of rank R has fitted values nearer to the head's
    own in squared error: these are projected on their first R right singular vectors, the second factor
    (reduced-rank regression, Izenman 1975). Raises UserError if the head can't have that rank.
    """
    width, targets = head.weight.shape
    most = min(len(features), width, targets)
    if not 1 <= rank <= most:
        raise UserError(
            f"head_rank: {rank} is out of range: {len(features)} volumes, {width} features, "
            f"{targets} targets",
            f"the nearest valid value is {min(max(rank, 1), most)}",
        )
    _, _, directions = np.linalg.svd((features - head.mean) / head.sd @ head.weight, full_matrices=False)
    right = directions[:rank]
    return np.asarray(head.weight @ right.T, np.float32), np.asarray(right, np.float32)
