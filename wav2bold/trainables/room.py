"""A folder of files that stays within its room: what was used longest ago goes, what is in use never does.

A file is in use while a process, on whichever node, has a shared lock on it: only one whose exclusive lock
can be had is dropped. An unlinked file does stay readable to those who have mapped it, but on NFS only on the
node that unlinked it: elsewhere whoever reads on dies of SIGBUS.
"""

import errno
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from wav2bold.errors import StorageError
from wav2bold.places import refusal
from wav2bold.trainables.locks import Lock, share, take, turn

SHARE = 0.9
"""What a folder without a bound takes of the room that it and the disk's free space have together."""
SLACK = 0.1
"""Share of the bound that is cleared beyond what is needed, so that the folder is seldom listed."""
ABANDONED_S = 7 * 24 * 3600.0
"""On a disk without locks, how long nobody has written to a partial file before its writer is dead."""
SUFFIX = ".safetensors"
SUBFOLDER = re.compile(r"[0-9a-f]{2}")
WHOLE = re.compile(r"[0-9a-f]{32}\.safetensors")
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.[0-9a-f]{16}\.partial")
GIGABYTE = 10**9


class NoRoom(Exception):
    """The bound leaves no room: what is in use fills it."""


@dataclass(frozen=True)
class _File:
    path: Path
    size: int
    used_ns: int

    @property
    def is_whole(self) -> bool:
        return bool(WHOLE.fullmatch(self.path.name))


@dataclass(frozen=True)
class Room:
    """The folder and its bound: max_gb, of 10^9 bytes; None for a share of the free space.

    Names are made of keys of 32 hexadecimal digits; whatever is named otherwise is not ours and stays.
    """

    folder: Path
    max_gb: float | None

    def path(self, key: str) -> Path:
        """Where the file of a key is."""
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    @contextmanager
    def turn(self, path: Path) -> Iterator[None]:
        """Our turn to make the file at `path`: others wait, unless they can't know of us or despair of us."""
        lock = path.with_suffix(".lock")
        with ExitStack() as held:
            with refusals(self.folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(turn(lock, lambda: _progress(path)))
            try:
                yield
            finally:
                with suppress(OSError):
                    lock.unlink(missing_ok=True)  # while it is held: whoever waits looks for it again

    @contextmanager
    def partial(self, path: Path, size: int, *, within: bool = False) -> Iterator[tuple[IO[bytes], Path]]:
        """A new file of `size` bytes to write into, for which room was made; `publish` gives it its name.

        To be called in one's turn.  It is gone at the end if it wasn't published. What dead writers left
        beside it goes at once.
        within: whether to raise NoRoom where files in use leave too little, rather than pass the bound.
        Raises StorageError if the disk refuses, or the bound can't be kept for want of locks.
        """
        partial = _aside(path)
        try:
            with ExitStack() as opened:
                with refusals(self.folder), self._alone():
                    for left in path.parent.iterdir():
                        if PARTIAL.fullmatch(left.name):
                            _drop(left, abandoned_s=ABANDONED_S)
                    self._make_room(size, within=within)
                    file = opened.enter_context(partial.open("xb+", buffering=0))
                    take(file)  # who holds it lives
                    file.truncate(size)  # so that whoever lists the folder counts all of it
                yield file, partial
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def publish(self, file: IO[bytes], partial: Path, path: Path) -> None:
        """Give a partial file its name. Until it and whatever is mapped of it is closed, it is in use."""
        with refusals(self.folder), self._alone():
            share(file)
            if path.exists():  # damaged, or another was as fast: whoever has mapped it keeps it
                old = path.rename(_aside(path))
                _drop(old)
            partial.rename(path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else makes room, begins a file or gives one its name meanwhile."""
        with turn(self.folder / "room.lock"):
            yield

    def _make_room(self, size: int, *, within: bool) -> None:
        """Drop files until `size` bytes more are within the bound, or nothing more can be dropped.

        within: as in `partial`.

        A number on disk says how much is held at most: it grows before a file is written. Only if that is too
        much is the folder listed, and the number set right.
        """
        number = self.folder / "held"
        try:
            text = number.read_text()
        except FileNotFoundError:
            text = ""
        held = int(text) if re.fullmatch(r"\d+\n", text) else None
        if held is None or held + size > self._bound(held):
            held = self._drop_oldest(size)
            if within and held + size > self._bound(held):
                number.write_text(f"{held}\n")
                raise NoRoom
        number.write_text(f"{held + size}\n")

    def _bound(self, held: int) -> int:
        room = held + shutil.disk_usage(self.folder).free
        return int(SHARE * room) if self.max_gb is None else min(int(self.max_gb * GIGABYTE), room)

    def _drop_oldest(self, size: int) -> int:
        """Make room for `size` bytes; gives how many bytes then are held."""
        files = list(self._listed())
        held = sum(file.size for file in files)
        bound = self._bound(held)
        if held + size <= bound:
            return held
        goal = bound * (1 - SLACK) - size
        # What nobody will read, and what is larger than all the room there is, goes before what could stay
        for file in sorted(files, key=lambda file: (file.is_whole and file.size <= bound, file.used_ns)):
            if held <= goal:
                break
            dropped = _drop(file.path)
            if dropped is Lock.HELD:
                held -= file.size
            elif dropped is Lock.NONE and self.max_gb is not None:
                raise StorageError(
                    f"{self.folder}: its disk has no locks, which tell what is in use, so that it can't be "
                    f"kept within activations.max_gb: {self.max_gb:g}",
                    "write null there, or choose another folder as results",
                )
        return held

    def _listed(self) -> Iterator[_File]:
        for folder in self.folder.iterdir():
            if SUBFOLDER.fullmatch(folder.name) and folder.is_dir():
                for path in folder.iterdir():
                    if WHOLE.fullmatch(path.name) or PARTIAL.fullmatch(path.name):
                        try:
                            found = path.stat()
                        except FileNotFoundError:
                            continue  # its writer gave up just now
                        yield _File(path, found.st_size, found.st_mtime_ns)


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """What a disk says against the store's folder, as a StorageError with its cure."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "results, or a smaller activations.max_gb" if full else "results"
        raise refusal(folder, error, cure) from None


def _aside(path: Path) -> Path:
    """A name beside the path that nobody has."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial")


def _progress(path: Path) -> list[tuple[str, int]]:
    """What changes while a file for `path` is written."""
    seen = []
    for partial in sorted(path.parent.glob(f".{path.stem}.*.partial")):
        with suppress(FileNotFoundError):
            seen.append((partial.name, partial.stat().st_mtime_ns))
    return seen


def _drop(path: Path, abandoned_s: float = float("inf")) -> Lock:
    """Unlink a file unless it is in use; gives what became of its lock.

    abandoned_s: how old it is when it may go although its disk has no locks.
    """
    try:
        with path.open("rb+") as file:
            lock = take(file)
            if lock is Lock.HELD or (lock is Lock.NONE and time.time() - path.stat().st_mtime > abandoned_s):
                path.unlink(missing_ok=True)
    except FileNotFoundError:
        return Lock.HELD
    except PermissionError:
        return Lock.OTHERS
    return lock
