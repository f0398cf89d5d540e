"""How long work tells what it is doing, without knowing who watches."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is (0: unknown)."""


def silent(what: str, done: int, total: int) -> None:
    """Watched by nobody."""
