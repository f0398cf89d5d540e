"""A budget of minutes takes the first of them, and what is held back shares no sample with the rest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wav2bold.datasets.budget import first_minutes, held_back, minutes_of
from wav2bold.datasets.windows import Windows, window_length
from wav2bold.errors import DataError

TR_S = 1.5


def heard(*volumes: int) -> Windows:
    """So many volumes of each story, from its fourth TR on."""
    story = np.repeat([f"story{number}" for number in range(len(volumes))], volumes)
    t = np.concatenate([np.arange(count) + 4 for count in volumes])
    stop = np.round(t * TR_S * 16_000).astype(np.int64)
    y = np.arange(len(t), dtype=np.float32)[:, None]
    return Windows(story, stop, y, np.array(["sub-007"]), 0)


def test_minutes_are_taken_from_the_beginning() -> None:
    some = first_minutes(heard(40, 60), TR_S, 1.25)
    assert len(some) == 50
    assert minutes_of(some, TR_S) == 1.25
    np.testing.assert_array_equal(some.y[:, 0], np.arange(50))
    assert some.story[-1] == "story1"


@pytest.mark.parametrize("minutes", [3, 0, -1])
def test_minutes_that_there_are_not_are_refused(minutes: float) -> None:
    with pytest.raises(DataError, match=f"sub-007: there are 2.5 minutes to train on, not {minutes}"):
        first_minutes(heard(40, 60), TR_S, minutes)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 4))
def test_no_sample_is_heard_in_both_parts(volumes: list[int], history: int) -> None:
    some = heard(*volumes)
    try:
        train, validation = held_back(some, TR_S, history)
    except DataError:
        assert len(some) <= 2 * history + 1
        return
    assert len(validation) == max(round(0.2 * len(some)), 1)
    np.testing.assert_array_equal(validation.y, some.y[-len(validation) :])
    begins = {}
    for story, stop in zip(validation.story, validation.stop, strict=True):
        begins[story] = min(begins.get(story, stop), stop - window_length(TR_S, history))
    assert all(stop <= begins.get(story, stop) for story, stop in zip(train.story, train.stop, strict=True))
    assert len(some) - len(validation) - len(train) <= history


def test_too_little_to_hold_back_is_told() -> None:
    with pytest.raises(DataError, match="too few to hold some back"):
        held_back(heard(3), TR_S, 4)
