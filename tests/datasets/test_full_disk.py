"""Wherever a disk fills up, `prepare` ends in one line about that disk, and goes on when there is room.

The disks are real ones, in memory.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from commands import wav2bold
from disks import mount, small_disk
from recordings import add_pair
from stores import contents
from undisturbed import undisturbed_bytes

from wav2bold.config import Cleaning
from wav2bold.datasets.prepare import prepare
from wav2bold.datasets.shards import CARD_NAME, MARKER_NAME
from wav2bold.datasets.writing import check_ours
from wav2bold.errors import StorageError
from wav2bold.options import write_whole

pytestmark = pytest.mark.usefixtures("small_ray")
ONE, OTHER = Cleaning(high_pass_s=None), Cleaning(high_pass_s=None, drop_first=2)
PAGE = 4096
ENOUGH = "size=8m,nr_inodes=1000"
CURE = r"No space left on device; free some space or choose another [a-z-]+, then run the same command again"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects hear two stories. A voxel is constant in one recording: the other is made narrower."""
    return add_pair(tmp_path_factory.mktemp("many") / "recordings", stories=2, seconds=4.0)


@pytest.fixture(scope="module")
def undisturbed(
    recordings: Path, tmp_path_factory: pytest.TempPathFactory, small_ray: None
) -> Mapping[Cleaning, Mapping[str, bytes]]:
    return undisturbed_bytes(recordings, tmp_path_factory.mktemp("undisturbed"), (ONE, OTHER))


def pages(files: Mapping[str, bytes]) -> int:
    return sum(-(-len(data) // PAGE) for data in files.values())


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def refusal(recordings: Path, shards: Path) -> StorageError | None:
    """Why nothing can be written there; None where all was."""
    try:
        prepare(recordings, shards, ONE, strict=False)
    except StorageError as error:
        return error
    return None


def test_a_disk_that_fills_up_anywhere_ends_all_and_the_next_prepare_goes_on(
    recordings: Path, undisturbed: Mapping[Cleaning, Mapping[str, bytes]], tmp_path: Path
) -> None:
    disk, whole = tmp_path / "disk", undisturbed[ONE]
    shards, least = disk / "a" / "shards", pages(whole)
    said = set()
    with small_disk(disk, "size=4k,nr_inodes=1000"):
        # From where the shards alone would have room page by page: there the card is written
        for room in (1, *range(least // 5, least, least // 5), *range(least - 1, 3 * least)):
            mount(disk, f"remount,size={room * PAGE}")
            refused = refusal(recordings, shards)
            if refused is None:
                break
            assert re.search(f"^{disk}[^;\n]*: {CURE}$", str(refused)), refused
            said.add(Path(refused.what.partition(": ")[0]).name)
            left = everything(disk)
            assert f"a/shards/{CARD_NAME}" not in left
            assert not [name for name in left if ".partial" in name]
            if left:  # drafts, or files that were being put into their places: the folder is ours, unfinished
                check_ours(shards)
        assert contents(shards) == whole
    assert said == {"shards", MARKER_NAME, CARD_NAME}


def test_a_disk_that_can_hold_no_more_files_ends_all_likewise(
    recordings: Path, undisturbed: Mapping[Cleaning, Mapping[str, bytes]], tmp_path: Path
) -> None:
    disk, whole = tmp_path / "disk", undisturbed[ONE]
    said = set()
    with small_disk(disk, "size=8m,nr_inodes=2"):
        shards = disk / "shards"
        for room in range(1, 60):
            mount(disk, f"remount,nr_inodes={room}")
            refused = refusal(recordings, shards)
            if refused is None:
                break
            assert re.search(CURE, str(refused)), refused
            said.add(Path(refused.what.partition(": ")[0]).name)
            assert not (shards / CARD_NAME).exists()
        assert contents(shards) == whole
    assert {"shards", MARKER_NAME, CARD_NAME} <= said, said


def test_old_shards_stay_where_new_ones_find_no_room(
    recordings: Path, undisturbed: Mapping[Cleaning, Mapping[str, bytes]], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, ENOUGH):
        prepare(recordings, disk / "shards", ONE)
        mount(disk, f"remount,size={(pages(undisturbed[ONE]) + 3) * PAGE}")
        for strict in (False, True):
            with pytest.raises(StorageError, match=CURE):
                prepare(recordings, disk / "shards", OTHER, strict=strict)
        found = contents(disk / "shards")
        assert {name: found[name] for name in found if ".aside" not in name} == undisturbed[ONE]
        mount(disk, f"remount,{ENOUGH}")
        prepare(recordings, disk / "shards", OTHER)
        assert contents(disk / "shards") == undisturbed[OTHER]


def test_a_file_that_finds_no_room_stays_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "size=8k"):
        path = disk / "x.yaml"
        write_whole(path, "old")
        with pytest.raises(StorageError, match=f"^{path}: {CURE}$"):
            write_whole(path, "new" * PAGE)
        assert contents(disk) == {"x.yaml": b"old"}


def test_the_command_says_it_in_one_line(recordings: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "size=40k"):
        done = wav2bold("prepare", recordings, "--out", disk / "shards", "--cpus", 2)
        assert done.code == 2, done.err
        (line,) = done.errors
        assert re.fullmatch(f"wav2bold: {disk / 'shards'}: {CURE}", line)
        assert [
            path.name for path in disk.rglob("[!.]*") if path.is_file() and ".aside" not in path.parts
        ] == []


def test_a_disk_that_may_only_be_read_is_named_before_any_work(recordings: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "size=40k,ro"):
        done = wav2bold("prepare", recordings, "--out", disk / "shards")
        assert done.code == 2
        assert done.errors == [
            f"wav2bold: {disk}: can't be written into; let yourself write there, or choose another --out"
        ]
