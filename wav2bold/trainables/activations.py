"""What is frozen, computed once: arrays on disk under the address of what they were made from."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

Rows = Iterator[NDArray[np.float32]]


class ActivationStore:
    """Arrays by content address, written once, memory-mapped by everyone.

    Trials and processes that ask for the same array at the same moment wait for the first to
    write it. A file appears whole or not at all; one that can't be read is made again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def array(
        self, address: dict[str, Any], shape: tuple[int, ...], compute: Callable[[], Rows]
    ) -> NDArray[np.float32]:
        """The array at `address`, of `shape`, read-only and mapped; `compute` is called if it isn't there.

        address: JSON-like; whatever changes the array must be in it.  compute: gives the array in
        pieces along its first axis, so that it never has to fit in memory.
        """
        key = hashlib.blake2b(json.dumps(address, sort_keys=True).encode(), digest_size=16).hexdigest()
        path = self.folder / key[:2] / f"{key}.npy"
        found = _mapped(path, shape)
        if found is not None:
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            found = _mapped(path, shape)
            if found is not None:
                return found
            partial = path.with_name(f".{key}.{os.getpid()}.partial")
            try:
                written = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
                row = 0
                for piece in compute():
                    written[row : row + len(piece)] = piece
                    row += len(piece)
                assert row == shape[0], f"{row} rows computed for {address}, {shape[0]} expected"
                written.flush()
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        mapped = _mapped(path, shape)
        assert mapped is not None, f"{path} vanished while it was opened"
        return mapped


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError, OSError):
        return None  # absent or damaged: either way it has to be computed
    return array if array.shape == shape and array.dtype == np.float32 else None
