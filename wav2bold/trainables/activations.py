"""What is frozen, computed once: arrays on disk under the address of what they were made from."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import StoredType
from wav2bold.trainables.checked_arrays import TYPES, Layout, map_open, mapped, write
from wav2bold.trainables.room import NoRoom, Room, refusals

Rows = Iterator[NDArray[np.float32]]


class ActivationStore:
    """Arrays by content address, written once, memory-mapped by everyone.

    Trials and processes, on all nodes that share the folder's disk, who ask for the same array at the same
    moment wait for the first to write it. A file appears whole or not at all. Every block of it is checked
    when a store first opens it, and one that is damaged is made again.
    max_gb, dtype: as `config.Activations` has them.
    """

    def __init__(self, folder: Path, max_gb: float | None = None, dtype: StoredType = "float32") -> None:
        self.folder = folder
        self.dtype = dtype
        self.is_bounded = max_gb is not None
        self._room = Room(folder, max_gb)
        self._checked: dict[Path, int] = {}  # the inode of what was sound

    def array(
        self, address: dict[str, Any], shape: tuple[int, ...], compute: Callable[[], Rows]
    ) -> NDArray[np.float32]:
        """The array at `address`, of `shape`, mapped and read-only, exactly as `compute` gave it.

        address: JSON-like; whatever changes the array must be in it.  compute: called if the array isn't
        there; gives it in pieces along its first axis, so that it never has to fit in memory.
        Raises StorageError if the disk refuses it.
        """
        return self._mapped(address, shape, "float32", compute)

    def tensor(self, address: dict[str, Any], shape: tuple[int, ...], compute: Callable[[], Rows]) -> Tensor:
        """The same in the store's own type, as a tensor on the mapped memory: nothing may write into it.

        Raises StudyError if a finite number is infinite in that type.
        """
        return self._tensor(self._mapped(address, shape, self.dtype, compute))

    def tensor_if_room(
        self, address: dict[str, Any], shape: tuple[int, ...], compute: Callable[[], Rows]
    ) -> Tensor | None:
        """As `tensor`; None where files in use leave too little of `max_gb`: then nothing is computed."""
        try:
            return self._tensor(self._mapped(address, shape, self.dtype, compute, within=True))
        except NoRoom:
            return None

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            return torch.from_numpy(array).view(TYPES[self.dtype])

    def _mapped(
        self,
        address: dict[str, Any],
        shape: tuple[int, ...],
        dtype: StoredType,
        compute: Callable[[], Rows],
        *,
        within: bool = False,
    ) -> NDArray[Any]:
        layout = Layout(json.dumps(address | {"dtype": dtype}, sort_keys=True), shape, dtype)
        path = self._room.path(hashlib.blake2b(layout.address.encode(), digest_size=16).hexdigest())
        found = self._found(path, layout)
        if found is None:
            with self._room.turn(path):
                found = self._found(path, layout)
                if found is None:
                    found = self._made(path, layout, compute, within=within)
        return found

    def _found(self, path: Path, layout: Layout) -> NDArray[Any] | None:
        with refusals(self.folder):
            return mapped(path, layout, self._checked)

    def _made(self, path: Path, layout: Layout, compute: Callable[[], Rows], *, within: bool) -> NDArray[Any]:
        with self._room.partial(path, layout.file_bytes, within=within) as (file, partial):
            write(file, layout, compute(), self.folder)
            self._room.publish(file, partial, path)
            self._checked[path] = os.fstat(file.fileno()).st_ino
            return map_open(file, layout)
