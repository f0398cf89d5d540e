"""Slots of a command, such as the artist of a song to be played: whether they were told, and their values."""

import re
from collections.abc import Sequence

from wav2bold.trainables.superb.edits import edits

SLOT = re.compile(r"B-(\S+) (.+?) E-\1")
MARK = re.compile(r"B-\S+ | E-\S+")


def slots_of(words: Sequence[str]) -> dict[str, list[str]]:
    """Values by slot of words such as PLAY B-artist MADONNA E-artist, in their order.

    Marks within a value aren't part of it; a slot that doesn't end isn't one.
    """
    found: dict[str, list[str]] = {}
    for slot, value in SLOT.findall(" ".join(words)):
        found.setdefault(slot, []).append(MARK.sub("", value))
    return found


def type_f1(truth: Sequence[str], told: Sequence[str]) -> tuple[float, float]:
    """F1 of the slots that an utterance has, whatever their values, and 1; none told of none is right."""
    true, own = set(slots_of(truth)), set(slots_of(told))
    return (2 * len(true & own) / (len(true) + len(own)) if true or own else 1.0), 1


def value_errors(truth: Sequence[str], told: Sequence[str]) -> tuple[float, float]:
    """Wrong characters in the values of an utterance's true slots, and characters that these have.

    Of several values that were told for a slot the nearest counts; of none all characters are missing.
    """
    own = slots_of(told)
    values = [(slot, value) for slot, values in slots_of(truth).items() for value in values]
    errors = sum(min(edits(value, one) for one in own.get(slot, [""])) for slot, value in values)
    return errors, sum(len(value) for _, value in values)
