"""One `prepare` at a time in a folder of shards, and none of its half-done files where readers look.

In a local folder the driver holds a lock while it works, and it alone puts files into their places: its tasks
write them aside, into a folder that the next driver removes. So a task that outlives its killed driver can
change nothing. A lock ends with the process that holds it. Stores have no locks: there the newest `prepare`
takes the folder over, by its name in the marker, and an older one stops at the next file that it finishes.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from wav2bold.datasets.shards import MARKER_NAME, content_digest
from wav2bold.errors import DataError
from wav2bold.places import Place, read_whole, within
from wav2bold.progress import Progress

LOCK_NAME = ".lock"
ASIDE = ".aside-"
OF_WRITERS = (LOCK_NAME, ASIDE)
"""Beginnings of the names that only a writer at work leaves in a folder."""


@dataclass(frozen=True)
class Writer:
    """The right to write into a folder of shards.

    aside: where tasks write before a file is published; None in a store, whose files appear whole.
    token: this writer's own name, which it leaves in a store's marker.
    """

    root: Place
    aside: Path | None
    token: str

    def draft(self, path: Place) -> Place:
        """Where a task writes the file that `publish` then puts at `path`."""
        if self.aside is None:
            return path
        return self.aside / f"{content_digest(within(path, self.root))}.parquet"

    def publish(self, path: Place) -> None:
        """Put a drafted file into its place, in one step; in a store it is there, if we still may write."""
        if not isinstance(path, Path):
            self.check()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.draft(path).replace(path)

    def check(self) -> None:
        """Raise DataError if a newer `prepare` has taken the store's folder over."""
        if self.aside is None and self.token not in read_whole(self.root / MARKER_NAME).decode():
            raise DataError(
                f"{self.root}: another `wav2bold prepare`, begun later, writes there",
                "wait for it to end, then run the same command again",
            )


@contextmanager
def single_writer(root: Place, progress: Progress) -> Iterator[Writer]:
    """The right to write into `root`, made if it is absent; waits, and says so, while another has it.

    A folder in which nothing was written by the end is left as it was.
    """
    token = secrets.token_hex(8)
    if not isinstance(root, Path):
        yield Writer(root, None, token)
        return
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    lock = _lock(root, progress)
    aside = root / f"{ASIDE}{token}"
    try:
        _clear(root)
        aside.mkdir()
        yield Writer(root, aside, token)
    finally:
        _clear(root)
        (root / LOCK_NAME).unlink(missing_ok=True)  # while it is held: whoever waits looks for it again
        if not (root / MARKER_NAME).exists():
            with suppress(OSError):  # another has begun to use one of them
                for folder in made:
                    folder.rmdir()
        lock.release()


def _lock(root: Path, progress: Progress) -> FileLock:
    while True:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / LOCK_NAME)
        with suppress(FileNotFoundError):  # one that gave up has just removed its empty folder
            try:
                lock.acquire(blocking=False)
            except Timeout:
                progress("waiting for another prepare of the same shards", 0, 0)
                lock.acquire()
            return lock


def _clear(root: Path) -> None:
    for folder in root.glob(f"{ASIDE}*"):
        shutil.rmtree(folder, ignore_errors=True)
