"""What is imported at once isn't gone through for garbage, and garbage is found all the same."""

import gc
import weakref

import pytest

from wav2bold.imports import importing


class Knot:
    """Garbage once it is let go of: it holds itself."""

    def __init__(self) -> None:
        self.own = self


def collections() -> list[int]:
    return [generation["collections"] for generation in gc.get_stats()]


def test_nothing_is_gone_through_while_much_is_made() -> None:
    before = collections()
    with importing():
        made = [[number] for number in range(100_000)]
        assert collections() == before
    assert not {id(one) for one in gc.get_objects(generation=0)} & set(map(id, made)), "they count as old"
    assert gc.get_freeze_count() == 0


def test_what_becomes_garbage_is_still_found() -> None:
    with importing():
        knot = Knot()
    gone = weakref.ref(knot)
    del knot
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_is_left_as_it_was(collecting: bool) -> None:
    def fail() -> None:
        with importing():
            assert not gc.isenabled()
            raise ImportError

    was = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(ImportError):
            fail()
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if was else gc.disable)()


def test_what_a_program_has_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with importing():
            pass
        assert gc.get_freeze_count() > frozen / 2  # some may be let go of meanwhile; thawing leaves none
    finally:
        gc.unfreeze()
