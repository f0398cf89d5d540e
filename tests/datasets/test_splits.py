"""Every story has one role, and a misspelt one is found."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listeners import card, volumes

from wav2bold.config import Split
from wav2bold.datasets.shards import DatasetCard
from wav2bold.datasets.splits import default_split, split_stories
from wav2bold.errors import StudyError

NAMES = ("bakery", "clockmaker", "ferry", "library", "lighthouse")


def of(*stories: str) -> DatasetCard:
    bold = {("sub-001", story): volumes([[0.0]], 1.5) for story in stories}
    return card(dict.fromkeys(stories, 60.0), bold, 1.5)


@given(order=st.permutations(NAMES), chosen=st.integers(1, 2), tested=st.integers(1, 2))
def test_what_is_not_held_out_trains_and_no_story_has_two_roles(
    order: list[str], chosen: int, tested: int
) -> None:
    validation, test = tuple(order[:chosen]), tuple(order[chosen : chosen + tested])
    stories = split_stories(Split(validation=validation, test=test), of(*NAMES))
    assert (stories.validation, stories.test) == (validation, test)
    assert set(stories.train) == set(NAMES) - {*validation, *test}
    assert len(stories.train) + len(validation) + len(test) == len(NAMES)


def test_stories_named_to_train_are_the_only_ones() -> None:
    split = Split(train=("library",), validation=("ferry",), test=("bakery",))
    assert split_stories(split, of(*NAMES)).train == ("library",)


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_a_misspelt_story_is_guessed_in_every_role(role: str) -> None:
    roles = {"train": ("library",), "validation": ("ferry",), "test": ("bakery",)}
    roles[role] = ("lighthose",)
    with pytest.raises(StudyError) as raised:
        split_stories(Split(**roles), of(*NAMES))
    assert str(raised.value) == "split: there is no story lighthose in the shards; did you mean lighthouse?"


def test_a_story_like_no_other_is_answered_with_those_there_are() -> None:
    with pytest.raises(StudyError) as raised:
        split_stories(Split(validation=("xyz",), test=("bakery",)), of("bakery", "ferry"))
    assert str(raised.value) == "split: there is no story xyz in the shards; there are bakery, ferry"


def test_a_split_that_leaves_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(StudyError) as raised:
        split_stories(Split(validation=("ferry",), test=("bakery",)), of("bakery", "ferry"))
    assert str(raised.value) == "split: no story is left to train on; the dataset has 2 stories"


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (Split(validation=("ferry",), test=("library",)), "bakery (train) and library (test)"),
        (Split(validation=("library",), test=("ferry",)), "bakery (train) and library (validation)"),
        (Split(validation=("library",), test=("bakery",)), "library (validation) and bakery (test)"),
    ],
)
def test_one_sound_under_two_names_is_not_heard_in_two_roles(split: Split, said: str) -> None:
    known = of("bakery", "ferry", "library", "orchard")
    same = {**known.stories, "library": known.stories["bakery"]}
    with pytest.raises(StudyError) as raised:
        split_stories(split, replace(known, stories=same))
    assert str(raised.value) == (
        f"split: {said} are the same sound; give both the same role, or leave one out of train"
    )
    together = Split(validation=("ferry",), test=("orchard",))
    assert split_stories(together, replace(known, stories=same)).train == ("bakery", "library")


@pytest.mark.parametrize("stories", [(), ("a",), ("a", "b")])
def test_too_few_stories_have_no_split_to_begin_with(stories: tuple[str, ...]) -> None:
    assert default_split(stories) is None


def test_a_split_begins_with_the_last_in_the_alphabet() -> None:
    assert default_split(NAMES[::-1]) == Split(validation=("library",), test=("lighthouse",))
