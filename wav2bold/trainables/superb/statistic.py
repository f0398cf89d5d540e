"""What becomes of test utterances' single numbers: the statistics that SUPERB's metrics are."""

# N utterances, U units, R draws of units

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float32]], NDArray[np.float64]
]
"""(R,) of parts (N,), wholes (N,), each one's unit (N,) and how often each draw takes each unit (R, U)."""


def share(
    parts: NDArray[np.float64],
    wholes: NDArray[np.float64],
    unit: NDArray[np.int64],
    counts: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Sum of parts by sum of wholes, (R,)."""
    summed = (np.bincount(unit, one, counts.shape[1]) for one in (parts, wholes))
    parts_R, wholes_R = (counts @ one for one in summed)
    return np.asarray(parts_R / wholes_R, np.float64)


STATISTICS: Mapping[str, Statistic] = {"share": share}
"""By name, as results on disk have it."""
