"""What is frozen is computed once, by one of all who ask, and is never half there."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from askers import ADDRESS, FORK, SHAPE, TRUTH, Counted, Other, again, left_over, refuses, the_file

from wav2bold.trainables import locks
from wav2bold.trainables.activations import ActivationStore


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    return ActivationStore(tmp_path / "store")


@pytest.fixture
def compute(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


# What is asked for comes back


def test_pieces_come_back_as_one_array_and_are_computed_once(
    store: ActivationStore, compute: Counted
) -> None:
    for _ in range(3):
        np.testing.assert_array_equal(store.array(ADDRESS, SHAPE, compute), TRUTH)
    assert compute.times == 1
    assert left_over(store) == []


def test_the_order_of_an_addresss_keys_does_not_matter_and_any_value_does(
    store: ActivationStore, compute: Counted
) -> None:
    store.array(ADDRESS, SHAPE, compute)
    store.array(dict(reversed(ADDRESS.items())), SHAPE, compute)
    assert compute.times == 1
    for key, value in (("encoder", "abd"), ("of", "layer3"), ("samples", 144_001)):
        store.array(ADDRESS | {key: value}, SHAPE, compute)
    assert compute.times == 4


def test_another_store_on_the_same_folder_finds_it(store: ActivationStore, compute: Counted) -> None:
    store.array(ADDRESS, SHAPE, compute)
    np.testing.assert_array_equal(again(store).array(ADDRESS, SHAPE, compute), TRUTH)
    assert compute.times == 1


def test_what_is_given_is_the_files_own_memory_and_an_array_cannot_be_written(
    store: ActivationStore, compute: Counted
) -> None:
    for opened in (store, store, again(store)):  # just made, found, and found by another
        array, tensor = opened.array(ADDRESS, SHAPE, compute), opened.tensor(ADDRESS, SHAPE, compute)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        with the_file(store).open("rb+") as file:
            file.seek(-4, os.SEEK_END)
            file.write(np.float32(1234).tobytes())
            file.flush()
            assert array[-1, -1, -1] == tensor[-1, -1, -1] == 1234
            file.seek(-4, os.SEEK_END)
            file.write(TRUTH[-1, -1, -1].tobytes())


# Many who ask


def test_what_fails_half_way_leaves_nothing_behind(store: ActivationStore, compute: Counted) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield TRUTH[:2]
        raise OSError("the power went")

    with pytest.raises(OSError, match=r"^the power went$"):
        store.array(ADDRESS, SHAPE, broken)
    assert left_over(store) == []
    np.testing.assert_array_equal(store.array(ADDRESS, SHAPE, compute), TRUTH)


def ask(tell: Callable[..., None], folder: Path, start: Any, numbers: list[int]) -> None:
    start.wait()
    store = ActivationStore(folder / "store")
    for number in numbers:
        compute = Counted(folder, pause_s=0.05)
        tell((number, store.array(ADDRESS | {"number": number}, SHAPE, compute).tolist()))


def test_processes_that_ask_at_the_same_moment_compute_it_once(tmp_path: Path) -> None:
    start = FORK.Barrier(6)
    with ExitStack() as stack:
        orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        askers = [stack.enter_context(Other(ask, tmp_path, start, order)) for order in orders]
        answers = [asker.hear() for asker in askers for _ in range(3)]
    assert all(answer == TRUTH.tolist() for _, answer in answers)
    assert Counted(tmp_path).times == 3
    assert left_over(ActivationStore(tmp_path / "store")) == []


def write_slowly(tell: Callable[..., None], folder: Path) -> None:
    """Two of three pieces, then nothing until told to go on."""

    def compute() -> Iterator[np.ndarray]:
        yield TRUTH[:4]
        tell("half written", wait=True)
        yield TRUTH[4:]

    tell(ActivationStore(folder / "store").array(ADDRESS, SHAPE, compute).tolist())


def test_a_writer_that_was_killed_blocks_nobody_and_its_part_is_removed(
    store: ActivationStore, compute: Counted, tmp_path: Path
) -> None:
    with Other(write_slowly, tmp_path) as writer:
        assert writer.hear() == "half written"
        assert len(left_over(store)) == 2  # its part and its lock
        writer.process.kill()
        writer.process.join()
    np.testing.assert_array_equal(store.array(ADDRESS, SHAPE, compute), TRUTH)
    assert left_over(store) == []


def test_a_writer_that_was_stopped_is_not_waited_for_for_ever_and_may_go_on_later(
    store: ActivationStore, compute: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALLED_S", 0.3)
    with Other(write_slowly, tmp_path) as writer:
        writer.hear()
        os.kill(writer.process.pid, signal.SIGSTOP)
        mine = store.array(ADDRESS, SHAPE, compute)
        os.kill(writer.process.pid, signal.SIGCONT)
        writer.go_on()
        assert writer.hear() == TRUTH.tolist() == mine.tolist()
    np.testing.assert_array_equal(again(store).array(ADDRESS, SHAPE, refuses), TRUTH)


def test_a_writer_that_makes_progress_is_waited_for(
    store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALLED_S", 1.5)
    start = FORK.Barrier(2)

    def ask_slowly(tell: Callable[..., None]) -> None:
        start.wait()
        tell(ActivationStore(store.folder).array(ADDRESS, SHAPE, Counted(tmp_path, 0.75, rows=1)).tolist())

    with Other(ask_slowly) as one, Other(ask_slowly) as other:
        assert one.hear() == other.hear() == TRUTH.tolist()
    assert Counted(tmp_path).times == 1


def test_where_the_disk_has_no_locks_two_may_compute_and_both_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    start = FORK.Barrier(3)
    with ExitStack() as stack:
        askers = [stack.enter_context(Other(ask, tmp_path, start, [0, 1])) for _ in range(3)]
        answers = [asker.hear() for asker in askers for _ in range(2)]
    assert all(answer == TRUTH.tolist() for _, answer in answers)
    store = ActivationStore(tmp_path / "store")
    np.testing.assert_array_equal(store.array(ADDRESS | {"number": 1}, SHAPE, refuses), TRUTH)
