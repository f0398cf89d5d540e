"""Noise that remembers, and predictions of it whose correlation with BOLD is known."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Array = NDArray[np.float64]


def ar(random: np.random.Generator, volumes: int, targets: int, coefficient: float = 0.4) -> Array:
    """(volumes, targets) autoregressive noise of unit variance."""
    noise = random.standard_normal((volumes + 100, targets))
    return np.asarray(lfilter([np.sqrt(1 - coefficient**2)], [1, -coefficient], noise, axis=0)[100:])


def heard(
    random: np.random.Generator,
    volumes: int,
    targets: int,
    r: float,
    memory: tuple[float, float] = (0.4, 0.7),
) -> tuple[Array, Array]:
    """BOLD and a prediction of it with this expected r. memory: AR coefficients of noise and of signal."""
    noise, signal = (ar(random, volumes, targets, one) for one in memory)
    return r * signal + np.sqrt(1 - r**2) * noise, signal
