"""BOLD as a matrix of volumes by targets in an HDF5 file, as labs share it once voxels have been chosen.

One file may hold several: a *member* is the name of one (`data`), or of one along a third, leading axis
(`individual_repeats[0]`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wav2bold.errors import DataError, may_not_be_read

SUFFIXES = (".hf5", ".h5", ".hdf5")


def is_matrix(path: Path) -> bool:
    """Whether a file is named as HDF5 files are."""
    return path.suffix.lower() in SUFFIXES


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Every array in a file, by its name. Raises DataError if the file can't be read."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = tuple(item.shape or ())

    with _opened(path) as file:
        file.visititems(note)
    return found


def read_matrix(path: Path, member: str | None) -> NDArray[np.float32]:
    """One matrix of a file as (volumes, targets) float32. member: None where there is only one.

    Raises DataError if the file can't be read, has no such member, or that is no matrix of numbers.
    """
    name, index, _ = _chosen(path, member)
    with _opened(path) as file:
        data = file[name]
        if data.dtype.kind not in "iuf":
            raise DataError(f"{path}: {name} holds {data.dtype}, no real numbers", "give one of numbers")
        rows = data.astype(np.float32)
        return np.asarray(rows[:] if index is None else rows[index])


def columns(path: Path, member: str | None) -> int:
    """Targets of one matrix. Raises DataError as `read_matrix` does."""
    return size(path, member)[1]


def size(path: Path, member: str | None) -> tuple[int, int]:
    """Volumes and targets of one matrix. Raises DataError as `read_matrix` does."""
    return _chosen(path, member)[2]


def _chosen(path: Path, member: str | None) -> tuple[str, int | None, tuple[int, int]]:
    """Name, place along a leading third axis, and (rows, columns) of a member."""
    there = shapes(path)
    if member is None:
        if len(there) != 1:
            raise DataError(f"{path}: holds {_listed(there)}", f"name the one to read, {path.name}::NAME")
        member = next(iter(there))
    name, index = _split(member)
    if name not in there:
        raise DataError(f"{path}: holds no {name}, but {_listed(there)}", "name one that it holds")
    shape = there[name]
    said = f"{path}: {name} is {' x '.join(map(str, shape)) or 'a single number'}"
    if len(shape) == 3 and index is None:
        raise DataError(f"{said}, no matrix", f"name one part of it, {name}[0] to {name}[{shape[0] - 1}]")
    if index is not None and (len(shape) != 3 or index >= shape[0]):
        raise DataError(f"{said}, it has no part {index}", "count from 0 along its first of three axes")
    if len(shape) - (index is not None) != 2 or shape[-2] < 2:
        raise DataError(f"{said}, no matrix of volumes by targets", "give one with a row per volume")
    return name, index, (shape[-2], shape[-1])


def _split(member: str) -> tuple[str, int | None]:
    """(name, place along its first axis) of a member."""
    found = re.fullmatch(r"/?(.+?)\[(\d+)\]", member)
    return (found[1], int(found[2])) if found else (member.removeprefix("/"), None)


def _listed(there: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(there) or "no array"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file", "fetch it (with DataLad: `datalad get`)")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except PermissionError:
        raise may_not_be_read(path) from None
    except (OSError, RuntimeError) as error:  # h5py's, on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"{path}: can't be read ({reason})", "the file is damaged or cut short; fetch it again"
        ) from None
