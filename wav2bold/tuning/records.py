"""Records on disk, first in, first out: what is still to be sent survives whoever should have sent it."""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from wav2bold.places import written
from wav2bold.trainables.locks import Lock, take

CHUNK = 1 << 14  # bytes; a record is a few hundred, or a configuration


class Records:
    """A file of records, one JSON line each after a first line that says what they are about.

    Only what is read is in memory. The file doesn't say what was dropped, and is emptied once all is: whoever
    takes it over may meet dropped records again. It is locked while its process lives.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        """file: unbuffered, opened to append, with its lock if the disk has any."""
        content = path.read_bytes()
        self.path, self._file = path, file
        self._head = self._first = content.find(b"\n") + 1  # bytes
        self._end = content.rfind(b"\n") + 1
        if self._end < len(content):  # a line that was torn by a lost node
            os.ftruncate(file.fileno(), self._end)
        self.about: dict[str, Any] = json.loads(content[: self._head] or b"{}")
        self.waiting = content.count(b"\n", self._head)
        self.were_left = self.waiting > 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep one more. Raises StorageError if the disk doesn't take it; those before stay whole."""
        line = json.dumps(record).encode() + b"\n"
        with written(self.path, "results folder"):
            try:
                _write(self._file, line)
            except OSError:
                os.ftruncate(self._file.fileno(), self._end)
                raise
        self._end += len(line)
        self.waiting += 1

    def first(self) -> dict[str, Any]:
        """The one that has waited longest."""
        return dict(json.loads(self._first_line()))

    def drop(self) -> None:
        """Forget the first."""
        self._first += len(self._first_line())
        self.waiting -= 1
        if not self.waiting and not self.were_left:  # on a disk without locks another may still write there
            os.ftruncate(self._file.fileno(), self._head)
            self._first = self._end = self._head

    def settle(self) -> None:
        """Return once a lost node would lose none of them."""
        if self.waiting:
            os.fsync(self._file.fileno())

    @property
    def aside(self) -> Path:
        """Where records are that nobody takes."""
        return self.path.with_suffix(".refused.jsonl")

    def put_aside(self, reason: str) -> None:
        """Keep the first in another file, with the reason; it is to be dropped then."""
        with written(self.aside, "results folder"), self.aside.open("ab") as file:
            file.write(json.dumps(self.first() | {"reason": reason}).encode() + b"\n")

    def close(self, *, remove: bool) -> None:
        """Let go of the file."""
        if remove:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _first_line(self) -> bytes:
        size = CHUNK
        while b"\n" not in (part := os.pread(self._file.fileno(), size, self._first)):
            size *= 2
        return part[: part.find(b"\n") + 1]


def begin_records(folder: Path, study: str, about: Mapping[str, Any]) -> Records:
    """A new file of records in a folder."""
    path = folder / f"unsent.{study}.{secrets.token_hex(4)}.jsonl"
    with written(path, "results folder"):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
        take(file)
        _write(file, json.dumps(about).encode() + b"\n")
    return Records(path, file)


def left_records(folder: Path, study: str) -> Iterator[Records]:
    """Files of records of a study whose process is gone, one after the other.

    A disk without locks can't tell, and those of living processes come as well.
    """
    named = re.compile(re.escape(f"unsent.{study}.") + r"[0-9a-f]{8}\.jsonl")
    for path in sorted(folder.glob("unsent.*.jsonl")):
        if not named.fullmatch(path.name):
            continue
        with written(path, "results folder"), path.open("a+b", buffering=0) as file:
            if take(file) is not Lock.OTHERS and _is_still(path, file):
                yield Records(path, file)


def _is_still(path: Path, file: IO[bytes]) -> bool:
    """Whether the file is still the one at that path: another process may have sent and removed it."""
    try:
        return path.stat().st_ino == os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


def _write(file: IO[bytes], line: bytes) -> None:
    """All of a line: a full disk takes a part of it before it raises."""
    while line:
        line = line[file.write(line) :]
