"""The files that recordings are made of: whether they are there, and may be read."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from wav2bold.errors import DataError, may_not_be_read

RAW = "sourcedata"
"""BIDS' folder of what a scanner wrote: often closed, and no recordings of ours are in it."""
FETCH = "fetch it (with DataLad: `datalad get`)"


def closed_to_us(path: Path) -> DataError:
    """The mistake of a path that may not be read; a closed folder above it is named in its place."""
    closed = (folder for folder in reversed(path.absolute().parents) if not os.access(folder, os.X_OK))
    return may_not_be_read(next(closed, path))


def is_there(path: Path) -> bool:
    """Whether there is such a file. Raises DataError if its folder doesn't let us see."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        raise closed_to_us(path) from None
    except OSError:
        return False


def check_open(path: Path) -> None:
    """Raise DataError if it is a folder that may not be looked into."""
    try:
        closed = path.is_dir() and not os.access(path, os.R_OK | os.X_OK)
    except PermissionError:
        closed = True
    if closed:
        raise closed_to_us(path)


def check_readable(path: Path, cure: str = FETCH) -> None:
    """Raise DataError unless there is such a file and it may be read. cure: where there is none."""
    if not is_there(path):
        raise DataError(f"{path}: no such file", cure)
    try:
        path.open("rb").close()
    except PermissionError:
        raise closed_to_us(path) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})", cure) from None


def walk(root: Path, closed: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    """Every folder from `root` down, with the names in it, sorted; those with a dot are passed over.

    Follows links, since DataLad is made of them, into each folder once.
    closed: those that may not be read are added to it.
    """

    def note(error: OSError) -> None:
        if isinstance(error, PermissionError) and Path(error.filename).name != RAW:
            closed.append(Path(error.filename))

    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def below(root: Path, pattern: str, closed: list[Path]) -> list[Path]:
    """The files below `root` whose names from there on are like the pattern, sorted. closed: as in `walk`."""
    parts = len(Path(pattern).parts)
    found = (folder / name for folder, names in walk(root, closed) for name in names)
    named = ((path, path.relative_to(root)) for path in found)
    return sorted(path for path, name in named if len(name.parts) == parts and name.match(pattern))
