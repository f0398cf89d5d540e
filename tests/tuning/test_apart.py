"""Pieces of work come back in their order, however they end, and a user's mistake as what it is."""

import time

import made_up
import pytest

from wav2bold.config import Study
from wav2bold.errors import DataError
from wav2bold.tuning.apart import worked_apart

STUDY = made_up.findings().study


def test_results_are_in_the_order_of_the_pieces_and_each_that_ends_is_told(small_ray: None) -> None:
    def slowest_first(study: Study, number: int, seconds: float) -> str:
        time.sleep(seconds)
        return f"{study.name} {number}"

    told = []
    pieces = [(0, 1.0), (1, 0.0), (2, 0.0)]
    found = worked_apart(
        STUDY, slowest_first, pieces, ["slow", "quick", "quick"], lambda *done: told.append(done)
    )
    assert found == [f"{STUDY.name} {number}" for number in range(3)]
    assert sorted(name for name, *_ in told) == ["quick", "quick", "slow"]
    assert [done for _, *done in told] == [[1, 3], [2, 3], [3, 3]]


def test_a_users_mistake_comes_out_as_it_was_raised(small_ray: None) -> None:
    def mistaken(study: Study) -> None:
        raise DataError(study.name, "give another")

    with pytest.raises(DataError, match=f"^{STUDY.name}; give another$"):
        worked_apart(STUDY, mistaken, [()], ["one"], lambda *done: None)
