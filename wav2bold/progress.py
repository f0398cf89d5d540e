"""How long work tells what it is doing, without knowing who watches."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is (0: unknown)."""


def silent(what: str, done: int, total: int) -> None:
    """Watched by nobody."""


def watched(items: Sequence[Item], what: str, progress: Progress) -> Iterator[Item]:
    """The items, one after the other, as `progress` is told how many were asked for."""
    for done, item in enumerate(items):
        progress(what, done, len(items))
        yield item
    if items:
        progress(what, len(items), len(items))
