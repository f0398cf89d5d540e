"""What is frozen is computed once, by one of all who ask, and is never half there."""

import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wav2bold.trainables.activations import ActivationStore

ADDRESS = {"encoder": "abc", "of": "layer2", "samples": 144_000}
SHAPE = (6, 3, 2)
TRUTH = np.arange(36, dtype=np.float32).reshape(SHAPE)


class Counted:
    """Gives the truth in pieces of two rows and counts, in a file, how often it was asked to."""

    def __init__(self, folder: Path, pause_s: float = 0.0) -> None:
        self.log = folder / "computed.log"
        self.pause_s = pause_s

    def __call__(self) -> Iterator[np.ndarray]:
        with self.log.open("a") as log:
            log.write("x")
        for first in range(0, 6, 2):
            time.sleep(self.pause_s)
            yield TRUTH[first : first + 2]

    @property
    def times(self) -> int:
        return len(self.log.read_text()) if self.log.exists() else 0


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    return ActivationStore(tmp_path / "store")


@pytest.fixture
def compute(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


def the_file(store: ActivationStore) -> Path:
    (path,) = store.folder.rglob("*.npy")
    return path


def test_pieces_come_back_as_one_array_and_are_computed_once(
    store: ActivationStore, compute: Counted
) -> None:
    for _ in range(3):
        np.testing.assert_array_equal(store.array(ADDRESS, SHAPE, compute), TRUTH)
    assert compute.times == 1


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
    np.testing.assert_array_equal(ActivationStore(store.folder).array(ADDRESS, SHAPE, compute), TRUTH)
    assert compute.times == 1


def test_an_array_is_mapped_and_cannot_be_written(store: ActivationStore, compute: Counted) -> None:
    for _ in range(2):  # just made, and found
        array = store.array(ADDRESS, SHAPE, compute)
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_in_its_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    path.write_bytes(b"something else entirely" * 20)


def of_another_shape(path: Path) -> None:
    np.save(path, TRUTH[:5])


def of_another_type(path: Path) -> None:
    np.save(path, TRUTH.astype(np.float64))


@pytest.mark.parametrize(
    "damage", [cut_in_half, cut_in_its_header, emptied, overwritten, of_another_shape, of_another_type]
)
def test_a_damaged_file_is_made_again(store: ActivationStore, compute: Counted, damage: Any) -> None:
    store.array(ADDRESS, SHAPE, compute)
    damage(the_file(store))
    np.testing.assert_array_equal(store.array(ADDRESS, SHAPE, compute), TRUTH)
    assert compute.times == 2
    np.testing.assert_array_equal(np.load(the_file(store)), TRUTH)


def test_what_fails_half_way_leaves_nothing_behind(store: ActivationStore, compute: Counted) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield TRUTH[:2]
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        store.array(ADDRESS, SHAPE, broken)
    assert not [path for path in store.folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    np.testing.assert_array_equal(store.array(ADDRESS, SHAPE, compute), TRUTH)


def _ask(folder: Path, barrier: Any, answers: Any) -> None:
    barrier.wait()
    compute = Counted(folder, pause_s=0.1)
    answers.put(float(ActivationStore(folder / "store").array(ADDRESS, SHAPE, compute).sum()))


def test_processes_that_ask_at_the_same_moment_compute_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_ask, args=(tmp_path, barrier, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [float(TRUTH.sum())] * 3
    assert Counted(tmp_path).times == 1
