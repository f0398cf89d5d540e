"""Arrays in files that show their own damage, and that many processes map.

They are safetensors files of one tensor, which other programs read too. Their metadata hold the address of
what they were made from, and a checksum of every block.
"""

# The format: https://github.com/huggingface/safetensors#format

import errno
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import StoredType
from wav2bold.errors import StudyError
from wav2bold.trainables.locks import share
from wav2bold.trainables.room import refusals

BLOCK = 2**23
"""Bytes under one checksum."""
ALIGNED = 64
"""The array begins at a multiple of this many bytes, as vector instructions like it."""
DAMAGED = {errno.EIO, errno.ESTALE}
"""What a disk says of a file that it has lost."""
NAMES: dict[StoredType, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
TYPES: dict[StoredType, torch.dtype] = {name: getattr(torch, name) for name in NAMES}
IN_NUMPY: dict[StoredType, type[np.generic]] = {
    "float32": np.float32,
    "bfloat16": np.uint16,  # its bits: numpy has no such type
    "float16": np.float16,
}
BEFORE_CHECKSUMS = '{"__metadata__":{"crc32":"'


@dataclass(frozen=True)
class Layout:
    """What a file must be to hold the array that was asked for. address: as text."""

    address: str
    shape: tuple[int, ...]
    dtype: StoredType

    @cached_property
    def data_bytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape)) * TYPES[self.dtype].itemsize

    @cached_property
    def header_bytes(self) -> int:
        """Bytes before the array, whatever its checksums are."""
        return len(self.header("0" * 8 * -(-self.data_bytes // BLOCK)))

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return self.header_bytes + self.data_bytes

    def header(self, checksums: str) -> bytes:
        """The file's beginning. checksums: eight hexadecimal digits a block."""
        tensor = {
            "dtype": NAMES[self.dtype],
            "shape": self.shape,
            "data_offsets": (0, self.data_bytes),
        }
        metadata = {"crc32": checksums, "address": self.address}
        text = json.dumps({"__metadata__": metadata, "activations": tensor}, separators=(",", ":")).encode()
        assert text.startswith(BEFORE_CHECKSUMS.encode())
        text += b" " * (-(8 + len(text)) % ALIGNED)
        return struct.pack("<Q", len(text)) + text


def write(file: IO[bytes], layout: Layout, pieces: Iterable[NDArray[np.float32]], folder: Path) -> None:
    """Write an array that comes in pieces along its first axis, and see it onto the disk.

    file: unbuffered.  folder: whose disk an error is about.
    Raises StorageError if the disk refuses, StudyError if a finite number would become infinite in the
    layout's type.
    """
    file.seek(layout.header_bytes)
    sums = _Sums()
    rows = 0
    for piece in pieces:
        assert piece.shape[1:] == layout.shape[1:], f"{piece.shape} is no piece of {layout}"
        data = _rounded(piece, layout.dtype)
        sums.add(data)
        rows += len(piece)
        with refusals(folder):
            _put(file, data)
    assert rows == layout.shape[0], f"{rows} rows computed for {layout}"
    file.seek(0)
    with refusals(folder):
        _put(file, memoryview(layout.header(sums.text)))
        os.fsync(file.fileno())  # before it gets its name: other nodes, too, must find what the name promises


def mapped(path: Path, layout: Layout, checked: dict[Path, int]) -> NDArray[Any] | None:
    """The array in a file, as `map_open` gives it; None if there is none, or it is damaged or another one.

    checked: inodes of files whose blocks have been compared with their checksums; what is in it isn't
    compared again, what is compared is added to it.
    """
    try:
        with path.open("rb") as file:
            share(file)
            found = os.fstat(file.fileno())
            if not found.st_nlink:
                return None  # dropped while we waited for the lock
            if not _is_sound(file, layout, check=checked.get(path) != found.st_ino):
                return None
            checked[path] = found.st_ino
            return map_open(file, layout)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in DAMAGED:
            return None
        raise


def map_open(file: IO[bytes], layout: Layout) -> NDArray[Any]:
    """The array in an open file, mapped and read-only; of bfloat16, the bits. Notes that it is used.

    The mapping holds the file open, and with it the lock: while any part of the array lives, it is in use.
    """
    with suppress(OSError):  # another's file, or a disk that is only read: then its lock alone shows its use
        os.utime(file.fileno())  # the time of change: that of access is not kept on every disk
    memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.ndarray(layout.shape, IN_NUMPY[layout.dtype], memory, layout.header_bytes)


def _is_sound(file: IO[bytes], layout: Layout, *, check: bool) -> bool:
    if os.fstat(file.fileno()).st_size != layout.file_bytes:
        return False
    header = file.read(layout.header_bytes)
    first = 8 + len(BEFORE_CHECKSUMS)
    blocks = -(-layout.data_bytes // BLOCK)
    checksums = header[first : first + 8 * blocks].decode("latin-1")
    if header != layout.header(checksums):
        return False
    return not check or checksums == _checksums(file, layout)


def _checksums(file: IO[bytes], layout: Layout) -> str:
    """Checksums of what follows in a file. It is read, not mapped: a disk's error is then no signal."""
    buffer = memoryview(bytearray(min(BLOCK, layout.data_bytes)))
    sums = _Sums()
    while count := file.readinto(buffer):  # type: ignore[attr-defined]  # IO lacks what every open file has
        sums.add(buffer[:count])
    return sums.text


def _put(file: IO[bytes], data: memoryview) -> None:
    """Write all of it: an unbuffered file may take less at once."""
    while data:
        data = data[file.write(data) :]


class _Sums:
    """CRC-32 of every block of what is added piece by piece."""

    def __init__(self) -> None:
        self._sums: list[int] = []
        self._bytes = 0

    def add(self, data: memoryview) -> None:
        for part in self._split(data):
            if self._bytes % BLOCK == 0:
                self._sums.append(0)
            self._sums[-1] = zlib.crc32(part, self._sums[-1])
            self._bytes += len(part)

    def _split(self, data: memoryview) -> Iterator[memoryview]:
        """The parts of data that lie in one block each."""
        while data:
            room = BLOCK - self._bytes % BLOCK
            yield data[:room]
            data = data[room:]

    @property
    def text(self) -> str:
        """Eight hexadecimal digits a block."""
        return "".join(f"{one:08x}" for one in self._sums)


def _rounded(piece: NDArray[np.float32], dtype: StoredType) -> memoryview:
    """The bytes of an array in a type. Raises StudyError if that makes a finite number infinite."""
    exact: Tensor = torch.from_numpy(np.ascontiguousarray(piece))
    rounded = exact.to(TYPES[dtype])
    if rounded.dtype != exact.dtype:
        lost = exact[torch.isfinite(exact) & ~torch.isfinite(rounded)]
        if len(lost):
            wider = [name for name in NAMES if torch.finfo(TYPES[name]).max > torch.finfo(TYPES[dtype]).max]
            raise StudyError(
                f"activations.dtype: {dtype} ends at {torch.finfo(rounded.dtype).max:g}, "
                f"an activation is {float(lost[0]):g}",
                f"write {' or '.join(wider)}",
            )
    return rounded.view(torch.uint8).numpy().reshape(-1).data
