"""One `prepare` at a time in a folder of shards, and none of its half-done files where readers look.

Tasks write every file aside, as a draft, and the driver alone puts drafts into their places. So a task that
outlives its killed driver can change nothing. Drafts are named by what they are made from: those of a
killed driver serve the next. In a local folder the driver holds a lock while it works; a lock ends with the
process that holds it. Stores have no locks: there whoever is the last to begin to put files into their
places takes the folder over, by its name in the marker, and an older one stops at its next file.
"""

import secrets
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from wav2bold.datasets.shards import MARKER_NAME, content_digest
from wav2bold.errors import DataError, StorageError, UserError
from wav2bold.places import Place, copy, files_below, read_whole, refusal, remove, remove_below, written
from wav2bold.progress import Progress

LOCK_NAME = ".lock"
ASIDE_NAME = ".aside"
OF_WRITERS = (LOCK_NAME, ASIDE_NAME)
"""Beginnings of the names that only a writer at work leaves in a folder."""
OUT = "--out"
"""What the user chose the folder of shards by."""
ABANDONED_S = 7 * 24 * 3600
"""How old drafts in a store are before they are somebody's who will not come back."""
AT_ONCE = 16
"""Files asked or copied side by side: where they are far away, that is waiting."""


class TakenOverError(DataError):
    """A newer `prepare` writes to the same folder of a store."""


def taken_over(root: Place) -> TakenOverError:
    """What an older `prepare` says when it notices a newer one."""
    return TakenOverError(
        f"{root}: another `wav2bold prepare`, begun later, writes there",
        "wait for it to end, then run the same command again",
    )


@dataclass(frozen=True)
class Writer:
    """The right to write into a folder of shards.

    token: this writer's own name, which begins with the time; it leaves it in a store's marker.
    """

    root: Place
    token: str

    @property
    def aside(self) -> Place:
        """The folder of its drafts."""
        return self.root / ASIDE_NAME / self.token

    def draft(self, *made_from: str) -> Place:
        """Where a task writes a file that `publish` then puts into its place.

        made_from: all that decides what it holds, and whose it is.
        """
        return self.aside / f"{content_digest(*made_from)}.parquet"

    def publish(self, draft: Place, path: Place) -> None:
        """Put a drafted file into its place, in one step; in a store, only if we still may write."""
        if isinstance(draft, Path) and isinstance(path, Path):
            with written(path, OUT):
                path.parent.mkdir(parents=True, exist_ok=True)
                draft.replace(path)
            return
        self.check()
        copy(draft, path)
        remove(draft)

    def check(self) -> None:
        """Raise TakenOverError if a newer `prepare` has taken the store's folder over."""
        if isinstance(self.root, Path):
            return
        if self.token not in read_whole(self.root / MARKER_NAME).decode():
            raise taken_over(self.root)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """While we put files into their places: whatever fails there in a store that was taken over.

        Raises TakenOverError in its place: a newer `prepare` replaces what we read.
        """
        try:
            yield
        except Exception:
            with suppress(StorageError, FileNotFoundError):  # a store that fails is told of already
                self.check()
            raise


def folder_of(path: Path) -> Path:
    """The folder of shards that a draft is for, whose own name says nothing; another path is itself."""
    aside = path.parent.parent
    return aside.parent if aside.name == ASIDE_NAME else path


@contextmanager
def single_writer(root: Place, progress: Progress) -> Iterator[Writer]:
    """The right to write into `root`, made if it is absent; waits, and says so, while another has it.

    Drafts go when the work is done, or has met a user's mistake; they stay when it was interrupted, or the
    disk is full.  A folder in which nothing was written by the end is left as it was.
    Raises StorageError if nothing can be written there.
    """
    writer = Writer(root, f"{int(time.time())}-{secrets.token_hex(8)}")
    if not isinstance(root, Path):
        _adopt_in_store(writer)
        with _drafts(writer):
            yield writer
        return
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        lock = _lock(root, progress)
    except BaseException:
        _remove_empty(made)
        raise
    try:
        with written(root, OUT):
            _adopt(root / ASIDE_NAME, root / ASIDE_NAME / writer.token)
        with _drafts(writer):
            yield writer
    finally:
        with suppress(OSError):  # it holds drafts, or is gone
            (root / ASIDE_NAME).rmdir()
        with suppress(OSError):  # the disk has become read-only
            (root / LOCK_NAME).unlink()  # while it is held: whoever waits looks for it again
        if not (root / MARKER_NAME).exists():
            _remove_empty(made)
        lock.release()


@contextmanager
def _drafts(writer: Writer) -> Iterator[None]:
    kept = True
    try:
        yield
        kept = False
    except StorageError:  # when there is room again, what was drafted need not be made again
        raise
    except UserError:
        kept = False
        raise
    finally:
        if isinstance(writer.aside, Path):
            if not (kept and any(writer.aside.iterdir())):
                _remove_aside(writer.aside)
        elif not kept:
            with suppress(UserError):  # a store that can't be reached any more is told of already
                remove_below(writer.aside)


def _remove_aside(folder: Path) -> None:
    """Remove drafts, also while a task that nobody waits for any more writes another."""
    away = folder.with_name(f".{folder.name}")
    with suppress(OSError):
        folder.rename(away)  # what is then written to its old name fails
        folder = away
    shutil.rmtree(folder, ignore_errors=True)


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # another has begun to use one of them, or there are drafts
        for folder in folders:
            folder.rmdir()


def _adopt(asides: Path, own: Path) -> None:
    """Take the drafts of writers who were interrupted; whoever holds the lock has no rival."""
    others = [*asides.iterdir()] if asides.is_dir() else []
    own.mkdir(parents=True)
    for other in others:
        for draft in other.glob("[!.]*"):
            draft.replace(own / draft.name)
        shutil.rmtree(other, ignore_errors=True)


def _adopt_in_store(writer: Writer) -> None:
    """Copy the drafts of others, who may be at work still. Those who surely aren't leave nothing behind."""
    asides = writer.root / ASIDE_NAME
    theirs: dict[str, Place] = {}
    for name in files_below(asides):
        token, _, draft = name.partition("/")
        if draft:
            theirs[draft] = asides / token / draft

    def take(draft: str) -> None:
        with suppress(FileNotFoundError):  # its writer has ended just now
            copy(theirs[draft], writer.aside / draft)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(take, theirs))
    for token in {place.parent.name for place in theirs.values()}:
        if time.time() - int(token.partition("-")[0]) > ABANDONED_S:
            remove_below(asides / token)


def _lock(root: Path, progress: Progress) -> FileLock:
    while True:
        lock = FileLock(root / LOCK_NAME)
        try:
            root.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                progress("waiting for another prepare of the same shards", 0, 0)
                lock.acquire()
        except FileNotFoundError:  # one that gave up has just removed its empty folder
            continue
        except OSError as error:
            raise refusal(root, error, OUT) from None
        return lock
