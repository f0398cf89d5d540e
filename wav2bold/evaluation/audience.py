"""Who is scored: their BOLD of the stories that train and test, as it is or as a control asks for it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.datasets.shards import Shards, in_common
from wav2bold.datasets.splits import Stories
from wav2bold.datasets.windows import Windows, windows
from wav2bold.errors import DataError
from wav2bold.evaluation.blocks import rows_of_stories
from wav2bold.trainables.people import INDICES, NAMES


@dataclass(frozen=True)
class Listener:
    """One subject's windows with BOLD: those a head is fitted on, and those it is scored on.

    train, test: the same V targets.  ceiling: (V,) noise ceiling of one recording; NaN: nothing tells it.
    regions: which targets each has, (V,) bool by its name; empty where targets have no names.
    """

    subject: str
    train: Windows
    test: Windows
    ceiling: NDArray[np.float64]
    regions: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Audience:
    """Subjects, and what of them is compared.

    history: TRs that every volume has heard, the longest that will be compared.
    shifted: whether BOLD is moved by half of each story, in a circle: nothing that was heard is in it then.
    bold_of: the subject whose BOLD of the test stories predictions are compared with; None: their own.
    """

    shards: Shards
    stories: Stories
    subjects: tuple[str, ...]
    history: int
    shifted: bool = False
    bold_of: str | None = None

    def listeners(self) -> Iterator[Listener]:
        """Everyone in turn, read from the shards: one is in memory at a time."""
        for subject in self.subjects:
            train, test = (self._heard(subject, some) for some in (self.stories.train, self.stories.test))
            table = self.shards.targets(subject)
            if self.bold_of is not None:
                other = self.shards.targets(self.bold_of)
                own_columns, columns = matched(table, other, subject, self.bold_of, self.shards.card.space)
                train = replace(train, y=train.y[:, own_columns], subject=train.subject[own_columns])
                test = self._heard(self.bold_of, self.stories.test)
                test = replace(test, y=test.y[:, columns], subject=test.subject[columns])
                table = other.iloc[columns]
            ceiling = np.asarray(table["ceiling"], np.float64)
            yield Listener(subject, train, test, ceiling, named_regions(table))

    @cached_property
    def rows(self) -> tuple[Windows, Windows]:
        """The rows of everyone's training windows, and of everyone's test windows, without targets."""
        return (
            rows_of_all(self._heard(subject, self.stories.train) for subject in self.subjects),
            rows_of_all(
                self._heard(subject, self.stories.test)
                for subject in (self.subjects if self.bold_of is None else (self.bold_of,))
            ),
        )

    def _heard(self, subject: str, stories: tuple[str, ...]) -> Windows:
        some = windows(self.shards, [subject], stories, self.history)
        return shifted(some) if self.shifted else some


def shifted(some: Windows) -> Windows:
    """The same windows with BOLD from half a story later, in a circle."""
    y = some.y.copy()
    for rows in rows_of_stories(some.story):
        y[rows] = np.roll(some.y[rows], len(rows) // 2, axis=0)
    return replace(some, y=y)


def matched(
    own: pd.DataFrame, other: pd.DataFrame, subject: str, name: str, space: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Targets at the same place in two subjects: numbers in the one, and in the other.

    own, other: tables of targets.  Raises DataError if there are none, or the space is each person's own.
    """
    regions = "members" in own and "members" in other
    alike = regions or subject == name or in_common(space)
    where = [
        column for column in (NAMES if regions else INDICES) if alike and column in own and column in other
    ]
    both = (
        own[where]
        .assign(one=np.arange(len(own)))
        .merge(other[where].assign(two=np.arange(len(other))), on=where)
        if where
        else pd.DataFrame({"one": [], "two": []})
    )
    if both.empty:
        raise DataError(
            f"{subject} and {name} have no target at the same place",
            "compare subjects whose targets lie in a common space",
        )
    return both["one"].to_numpy(np.int64), both["two"].to_numpy(np.int64)


def named_regions(table: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Targets of each region by its name, or its number where it has none; in order of appearance."""
    if "label" not in table:
        return {}
    names = table["label"].astype(str)
    if "name" in table:
        names = table["name"].where(table["name"].notna(), names)
    return {str(name): np.asarray(names == name) for name in dict.fromkeys(names)}


def rows_of_all(some: Iterable[Windows]) -> Windows:
    """Every row that any of them has, once, without targets: stories as they come, each in time."""
    stops: dict[str, list[NDArray[np.int64]]] = {}
    for one in some:
        for story in dict.fromkeys(one.story):
            stops.setdefault(str(story), []).append(one.stop[one.story == story])
    rows = {story: np.unique(np.concatenate(parts)) for story, parts in stops.items()}
    stop = np.concatenate(list(rows.values()))
    nothing = np.zeros((len(stop), 0), np.float32)
    names = np.repeat(list(rows), [len(each) for each in rows.values()])
    return Windows(names, stop, nothing, np.zeros(0, np.str_), 0)


def places_in(everyone: Windows, one: Windows) -> NDArray[np.int64]:
    """(N,) where each row of `one` is in the rows of all, which `rows_of_all` gave."""
    found = np.zeros(len(one), np.int64)
    for story in dict.fromkeys(one.story):
        first = int(np.argmax(everyone.story == story))
        stops = everyone.stop[everyone.story == story]
        own = one.story == story
        found[own] = first + np.searchsorted(stops, one.stop[own])
    return found
