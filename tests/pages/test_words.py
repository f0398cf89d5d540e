"""Numbers as pages and terminal say them."""

import math

import pytest

from wav2bold.pages.words import count, decimals, duration, listed


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (1168.5, "19 min 28 s"),
        (3599.7, "1 h"),
        (7260, "2 h 1 min"),
        (3_600_000, "1,000 h"),
    ],
)
def test_durations_have_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_counts_agree_with_their_words() -> None:
    assert [count(number, "story") for number in (0, 1, 9315)] == ["0 stories", "1 story", "9,315 stories"]
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_a_number_that_there_is_not_is_a_dash() -> None:
    assert [decimals(value, 1) for value in (-0.25, 3, math.nan)] == [
        "\N{MINUS SIGN}0.2",
        "3.0",
        "\N{EN DASH}",
    ]
