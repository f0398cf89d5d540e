"""The store stays within its room: what was used longest ago goes, and what is in use stays."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from askers import ROWS, WIDTH, Other, kept, left_over, numbered, refuses

from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.locks import Lock, take
from wav2bold.trainables.room import ABANDONED_S, Room

BYTES = 4 * ROWS * WIDTH
MAX_GB = 10.5 * 1.02 * BYTES / 1e9  # for ten with their headers


def bounded(folder: Path) -> ActivationStore:
    return ActivationStore(folder, MAX_GB)


def used_at(store: ActivationStore, number: int, time_s: float) -> None:
    os.utime(kept(store)[number], (time_s, time_s))


def held(store: ActivationStore) -> int:
    return sum(path.stat().st_size for path in store.folder.rglob("*.*") if path.is_file())


def test_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    store = bounded(tmp_path)
    for number in range(10):
        numbered(store, number)
        used_at(store, number, 1000 + number)
    assert kept(store).keys() == set(range(10))
    numbered(store, 0)  # and is the newest now
    numbered(store, 10)
    assert kept(store).keys() >= {0, 10, 9, 8, 7, 6}
    assert not kept(store).keys() & {1, 2}
    assert len(kept(store)) == 9  # a tenth is cleared beyond what was needed


def test_the_bound_holds_after_every_writing_and_the_folder_is_seldom_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, listed = bounded(tmp_path), []
    plain = Room._listed
    monkeypatch.setattr(Room, "_listed", lambda room: listed.append(1) or plain(room))
    for number in range(60):
        numbered(store, number)
        assert held(store) <= MAX_GB * 1e9
    assert len(kept(store)) >= 8
    assert len(listed) <= 60 / 2


def test_a_bound_that_was_lowered_holds_after_the_next_writing(tmp_path: Path) -> None:
    for number in range(10):
        numbered(bounded(tmp_path), number)
    store = ActivationStore(tmp_path, MAX_GB / 2)
    numbered(store, 10)
    assert held(store) <= MAX_GB / 2 * 1e9
    assert 10 in kept(store)


def test_what_is_mapped_here_stays_however_old_and_goes_when_nothing_holds_it(tmp_path: Path) -> None:
    store = bounded(tmp_path)
    mapped, part = numbered(store, 0), numbered(store, 1)[2:3].T
    numbered(store, 2)
    tensor = store.tensor({"number": 2}, (ROWS, WIDTH), refuses)
    for number in range(40):
        numbered(store, number)
        for old in (0, 1, 2):
            used_at(store, old, 1000)
    assert (mapped == 0).all()
    assert (part == 1).all()
    assert (tensor == 2).all()
    assert kept(store).keys() >= {0, 1, 2}
    del mapped, part, tensor
    for number in range(40, 50):
        numbered(store, number)
    assert not kept(store).keys() & {0, 1, 2}


def use(tell: Callable[..., None], folder: Path) -> None:
    array = numbered(bounded(folder), 0)
    tell("mapped", wait=True)
    tell(float(array.sum()), wait=True)


def test_what_another_process_has_mapped_stays_until_it_ends(tmp_path: Path) -> None:
    store = bounded(tmp_path)
    with Other(use, tmp_path) as other:
        other.hear()
        for number in range(1, 30):
            used_at(store, 0, 1000)
            numbered(store, number)
        assert 0 in kept(store)
        other.go_on()
        assert other.hear() == 0
    for number in range(30, 40):  # it was killed, and unmapped nothing
        numbered(store, number)
    assert 0 not in kept(store)


def drop(tell: Callable[..., None], path: Path) -> None:
    with path.open("rb+") as file:
        assert take(file) is Lock.HELD
        tell("about to drop it", wait=True)
        path.unlink()


def test_what_is_dropped_while_it_is_asked_for_is_made_again(tmp_path: Path) -> None:
    store = ActivationStore(tmp_path)
    numbered(store, 0)
    with Other(drop, kept(store)[0]) as other:
        other.hear()
        threading.Timer(0.3, other.go_on).start()
        array = numbered(store, 0)
    assert kept(store).keys() == {0}
    assert (array == 0).all()


def test_what_is_larger_than_all_the_room_is_kept_while_in_use_and_goes_first(tmp_path: Path) -> None:
    store = bounded(tmp_path)
    numbered(store, 1)
    large = numbered(store, 0, rows=12 * ROWS)
    numbered(store, 2)
    assert kept(store).keys() == {0, 2}
    assert (large == 0).all()
    del large
    used_at(store, 2, 1000)
    numbered(store, 3)
    assert kept(store).keys() == {2, 3}  # although it was used after 2


def test_what_is_not_its_own_is_never_removed(tmp_path: Path) -> None:
    store = bounded(tmp_path)
    numbered(store, 0)
    folder = kept(store)[0].parent
    others = [
        tmp_path / "notes.txt",
        tmp_path / ("0" * 32 + ".safetensors"),
        folder / "weights.safetensors",
        folder / ".hidden.partial",
        folder / ("0" * 32 + ".npy"),
    ]
    (tmp_path / "mine").mkdir()
    others.append(tmp_path / "mine" / ("1" * 32 + ".safetensors"))
    for path in others:
        path.write_bytes(bytes(BYTES))
        os.utime(path, (1000, 1000))
    for number in range(40):
        numbered(store, number)
    assert all(path.stat().st_size == BYTES for path in others)


@pytest.mark.parametrize("number", [None, "", "12", "many\n", "99999999999\n"])
def test_a_number_of_held_bytes_that_is_gone_or_wrong_is_set_right(
    tmp_path: Path, number: str | None
) -> None:
    store = bounded(tmp_path)
    for one in range(10):
        numbered(store, one)
    if number is None:
        (tmp_path / "held").unlink()
    else:
        (tmp_path / "held").write_text(number)
    numbered(store, 10)
    assert held(store) <= MAX_GB * 1e9
    assert len(kept(store)) == 9
    assert int((tmp_path / "held").read_text()) == sum(path.stat().st_size for path in kept(store).values())


# Parts and places


def path_of(store: Room, sign: str) -> Path:
    path = store.path("ab" + sign * 30)
    path.parent.mkdir(exist_ok=True)
    return path


def begin(tell: Callable[..., None], folder: Path) -> None:
    store = Room(folder, None)
    with store.partial(path_of(store, "1"), 100) as (file, partial):
        file.write(b"1" * 50)
        tell(partial.name, wait=True)
        store.publish(file, partial, path_of(store, "1"))
    tell("published", wait=True)


def test_a_dead_writers_part_goes_when_another_writes_beside_it_and_a_living_ones_stays(
    tmp_path: Path,
) -> None:
    store = Room(tmp_path, None)
    with Other(begin, tmp_path) as dead:
        part = path_of(store, "1").with_name(dead.hear())
    assert part.exists()
    with Other(begin, tmp_path) as living:
        own = path_of(store, "1").with_name(living.hear())
        assert not part.exists()
        with store.partial(path_of(store, "2"), 100):
            assert own.exists()
        living.go_on()
        assert living.hear() == "published"
    assert path_of(store, "1").stat().st_size == 100


def test_dead_writers_parts_make_room_before_any_array_does(tmp_path: Path) -> None:
    store = bounded(tmp_path)
    for number in range(8):
        numbered(store, number)
    for name in ("11", "22"):
        part = tmp_path / name / f".{name * 16}.{'0' * 16}.partial"
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(bytes(BYTES))
    (tmp_path / "held").unlink()
    numbered(store, 8)
    assert kept(store).keys() == set(range(9))
    assert left_over(store) == []


def test_what_is_made_again_stays_with_those_who_have_mapped_it(tmp_path: Path) -> None:
    store = ActivationStore(tmp_path)
    old = numbered(store, 3)
    with kept(store)[3].open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x77")
    assert old[-1, -1] != 3
    numbered(ActivationStore(tmp_path), 3)
    assert old[-1, -1] != 3
    assert len(left_over(store)) == 1
    del old
    numbered(ActivationStore(tmp_path, 1e-9), 4)
    assert left_over(store) == []


def test_on_a_disk_without_locks_a_part_goes_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    store = Room(tmp_path, None)
    with Other(begin, tmp_path) as dead:
        part = path_of(store, "1").with_name(dead.hear())
    monkeypatch.setattr("fcntl.flock", none)
    for age_s, there in ((ABANDONED_S - 60, True), (ABANDONED_S + 60, False)):
        then = time.time() - age_s
        os.utime(part, (then, then))
        with store.partial(path_of(store, "2"), 100):
            assert part.exists() == there
