"""Waiting for what comes in its own time."""

import time
from collections.abc import Callable


def eventually(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until something holds. Raises AssertionError with `what` if it doesn't come to."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
