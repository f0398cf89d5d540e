"""A disk that fills up, and paths that may not be read, are named with their cure, and nothing is lost."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import environment, executable
from recordings import add_story, add_volumes, noise
from stores import contents

from wav2bold.config import Cleaning
from wav2bold.datasets.prepare import prepare

PLAIN, OTHER = Cleaning(high_pass_s=None), Cleaning(high_pass_s=None, drop_first=2)
AS_ROOT = os.geteuid() == 0
FREED = "; free some space and run the same command again"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two subjects hear three stories; a recording takes about 0.2 MB."""
    root = tmp_path / "recordings"
    for number in range(3):
        add_story(root, f"story{number}", 20.0, seed=number)
        for subject in (1, 2):
            y = noise(16, 15, 14, 14, seed=10 * number + subject)
            add_volumes(root, y, f"sub-{subject}", f"story{number}")
    return root


class Disk:
    """A file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, *options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"file systems can't be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if not AS_ROOT:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    yield Disk(folder)
    while folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("size", ["1m", "2m", "3m"])
def test_a_full_disk_is_named_and_the_next_prepare_goes_on(
    size: str, recordings: Path, tmp_path: Path, disk: Disk, small_ray: None
) -> None:
    prepare(recordings, tmp_path / "roomy", PLAIN)
    disk.mount(f"size={size}")
    out = disk.folder / "shards"
    for strict in (True, False):
        with pytest.raises(OSError, match="No space left on device") as caught:
            prepare(recordings, out, PLAIN, strict=strict)
        assert caught.value.errno == errno.ENOSPC
        assert Path(caught.value.filename).is_relative_to(out)
        assert {path.name for path in out.glob("*")} <= {".aside"}
        assert not list(out.rglob("*.partial"))
    disk.mount("remount", "size=50m")
    prepare(recordings, out, PLAIN)
    assert contents(out) == contents(tmp_path / "roomy")


def test_shards_stay_whole_when_there_is_no_room_for_new_ones(
    recordings: Path, disk: Disk, small_ray: None
) -> None:
    disk.mount("size=50m")
    out = disk.folder / "shards"
    prepare(recordings, out, PLAIN)
    before = contents(out)
    disk.mount("remount", f"size={shutil.disk_usage(disk.folder).used + 400_000}")
    with pytest.raises(OSError, match="No space left on device"):
        prepare(recordings, out, OTHER)
    assert {name: data for name, data in contents(out).items() if not name.startswith(".aside")} == before


def without_privilege(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command that is kept out where modes say so, also when root runs the tests."""
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if AS_ROOT else []
    if bound and not shutil.which("setpriv"):
        pytest.skip("root reads everything, and there is no setpriv to forbid it")
    return subprocess.run(
        [*bound, *map(str, words)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def closed() -> Iterator[list[Path]]:
    """Paths that a test closes; they are opened again, so that they can be removed."""
    paths: list[Path] = []
    yield paths
    for path in reversed(paths):
        path.chmod(0o755)


def test_paths_that_may_not_be_read_are_named_and_the_others_done(
    recordings: Path, tmp_path: Path, closed: list[Path]
) -> None:
    stem = "sub-1_task-story{}_run-1"
    func = recordings / "sub-1" / "func"
    bold = next(func.glob(f"{stem.format(0)}*.nii.gz"))
    events = next(func.glob(f"{stem.format(1)}_events.tsv"))
    sound = recordings / "stimuli" / "story2.wav"
    add_volumes(recordings, noise(16, 15, 14, 14), "sub-3", "story0")
    add_story(recordings, "story3", 20.0, seed=3)
    add_volumes(recordings, noise(16, 15, 14, 14, seed=5), "sub-2", "story3")
    folder = recordings / "sub-3" / "func"
    raw = recordings / "sourcedata"
    raw.mkdir()
    closed += [bold, events, sound, folder, raw]
    for path in closed:
        path.chmod(0)
    done = without_privilege(
        executable(), "prepare", recordings, "--out", tmp_path / "shards", "--cpus", 1, folder=tmp_path
    )
    assert done.returncode == 1, done.stderr
    told = [line for line in (done.stdout + done.stderr).splitlines() if "may not be read" in line]
    for path in (bold, events, sound, folder):
        line = next((line for line in told if str(path) in line), done.stdout + done.stderr)
        assert line.endswith("may not be read; let yourself read it (chmod, or ask its owner)")
    assert len(told) == 4
    assert "4 failed, the others are done" in done.stdout + done.stderr
    written = {path.parent.name for path in (tmp_path / "shards" / "bold").rglob("*.parquet")}
    assert written == {"story=story0", "story=story1", "story=story3"}

    strict = without_privilege(
        executable(), "prepare", recordings, "--out", tmp_path / "none", "--strict", folder=tmp_path
    )
    assert strict.returncode == 2
    assert strict.stderr.count("\n") == 1
    assert "may not be read; let yourself" in strict.stderr
    assert not (tmp_path / "none").exists()


def test_a_folder_that_may_not_be_written_into_is_named(
    recordings: Path, tmp_path: Path, closed: list[Path]
) -> None:
    owned = tmp_path / "owned"
    owned.mkdir()
    owned.chmod(0o555)
    closed.append(owned)
    done = without_privilege(executable(), "prepare", recordings, "--out", owned / "shards", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(owned) in done.stderr
    assert not list(owned.iterdir())


def test_the_command_says_on_one_line_that_the_disk_is_full(recordings: Path, disk: Disk) -> None:
    disk.mount("size=2m")
    out = disk.folder / "shards"
    done = subprocess.run(
        [executable(), "prepare", str(recordings), "--out", str(out), "--cpus", "1"],
        cwd=recordings.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"wav2bold: {out}")
    assert last.endswith(f"No space left on device{FREED}")
    assert "Traceback" not in done.stderr
