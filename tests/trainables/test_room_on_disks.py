"""The store on disks that are full, can only be read, or have no locks. Small ones in memory."""

import errno
import os
from pathlib import Path

import pytest
from askers import ROWS, WIDTH, kept, left_over, numbered
from disks import mount, small_disk

from wav2bold.errors import StorageError
from wav2bold.trainables.activations import ActivationStore

MAX_GB = 10.5 * 1.02 * 4 * ROWS * WIDTH / 1e9  # for ten with their headers
FULL = "No space left on device; free some space or choose another results, or a smaller activations.max_gb, "


def test_a_full_disk_is_named_with_its_cure_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "size=200k,nr_inodes=1000"):
        store = ActivationStore(disk / "store")
        mapped = [numbered(store, 0), numbered(store, 1)]
        with pytest.raises(StorageError) as raised:
            numbered(store, 2, rows=4 * ROWS)
        assert str(raised.value) == f"{disk / 'store'}: {FULL}then run the same command again"
        assert kept(store).keys() == {0, 1}
        assert left_over(store) == []
        mount(disk, "remount,size=400k")
        numbered(store, 2, rows=4 * ROWS)
        assert (mapped[1] == 1).all()
        del mapped


def refusal(store: ActivationStore, number: int) -> str:
    """Why the disk refuses a numbered array; empty where it doesn't."""
    try:
        numbered(store, number)
    except StorageError as error:
        return str(error)
    return ""


def test_a_disk_that_can_hold_no_more_files_is_named_likewise(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "size=8m,nr_inodes=2"):
        store = ActivationStore(disk / "store")
        for inodes in range(2, 20):
            mount(disk, f"remount,nr_inodes={inodes}")
            refused = refusal(store, 0)
            if not refused:
                break
            assert refused.startswith(f"{disk / 'store'}: {FULL}")
            assert kept(store) == {}
            assert left_over(store) == []
        assert 3 < inodes < 19


def test_without_a_bound_a_tenth_of_the_disks_room_stays_free(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "size=1m,nr_inodes=1000"):
        (disk / "others").write_bytes(bytes(300_000))
        store = ActivationStore(disk / "store")
        for number in range(40):
            numbered(store, number)
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            assert free > 0.09 * (2**20 - 300_000)
        assert len(kept(store)) >= 11
        assert 39 in kept(store)


def test_a_disk_that_may_only_be_read_still_gives_what_is_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "size=1m"):
        numbered(ActivationStore(disk), 0)
        mount(disk, "remount,ro")
        numbered(ActivationStore(disk), 0)
        with pytest.raises(StorageError, match=r"Read-only file system; choose another results, that can be"):
            numbered(ActivationStore(disk), 1)


def test_on_a_disk_without_locks_a_bound_is_refused_and_without_one_nothing_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    disk = tmp_path / "disk"
    with small_disk(disk, "size=1m,nr_inodes=1000"):
        store = ActivationStore(disk, MAX_GB)
        for number in range(10):
            numbered(store, number)
        with pytest.raises(StorageError) as raised:
            numbered(store, 10)
        assert str(raised.value) == (
            f"{disk}: its disk has no locks, which tell what is in use, so that it can't be kept within "
            f"activations.max_gb: {MAX_GB:g}; write null there, or choose another folder as results"
        )
        refusals = [refusal(ActivationStore(disk), number) for number in range(10, 40)]
        assert not any(refusals[:10])
        assert "No space left" in refusals[-1]
        assert kept(store).keys() >= set(range(20))
