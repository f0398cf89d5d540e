"""Which stories train, choose and test."""

from collections.abc import Collection
from dataclasses import dataclass

from wav2bold.config import Split
from wav2bold.datasets.shards import DatasetCard
from wav2bold.errors import StudyError
from wav2bold.options import nearest


@dataclass(frozen=True)
class Stories:
    """The stories of each role; no story has two, so no audio sample is in two."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_stories(split: Split, card: DatasetCard) -> Stories:
    """The stories of each role.

    Raises StudyError if the dataset lacks a named story, nothing is left to train on, or two roles have the
    same sound under two names.
    """
    known = list(card.stories)
    for story in (*split.validation, *split.test, *(split.train or ())):
        if story not in known:
            near = nearest(story, known)
            raise StudyError(
                f"split: there is no story {story} in the shards",
                f"did you mean {near}?" if near else f"there are {', '.join(known)}",
            )
    held_out = {*split.validation, *split.test}
    train = split.train or tuple(story for story in known if story not in held_out)
    if not train:
        raise StudyError("split: no story is left to train on", f"the dataset has {len(known)} stories")
    stories = Stories(train, split.validation, split.test)
    _check_sounds(stories, card)
    return stories


def _check_sounds(stories: Stories, card: DatasetCard) -> None:
    """Raise StudyError if a sound is heard in two roles: a model tested on what it was trained on."""
    roles = {"train": stories.train, "validation": stories.validation, "test": stories.test}
    first: dict[str, tuple[str, str]] = {}
    for role, names in roles.items():
        for name in names:
            other, where = first.setdefault(card.stories[name].digest, (name, role))
            if where != role:
                raise StudyError(
                    f"split: {other} ({where}) and {name} ({role}) are the same sound",
                    "give both the same role, or leave one out of train",
                )


def default_split(stories: Collection[str]) -> Split | None:
    """The last story in the alphabet tests and the one before it chooses; None if there are too few."""
    if len(stories) < 3:
        return None
    *_, validation, test = sorted(stories)
    return Split(validation=(validation,), test=(test,))
