"""What is made of each story when it is first asked for."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ByStory(dict[str, T]):
    """Values by story. make: called once for each story that is asked for."""

    def __init__(self, make: Callable[[str], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, story: str) -> T:
        made = self[str(story)] = self._make(str(story))
        return made
