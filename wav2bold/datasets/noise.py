"""Real resting-state BOLD, used as the noise of a simulated recording."""

import functools
import zlib
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nilearn.datasets import load_fsaverage
from numpy.typing import NDArray

from wav2bold.errors import DataError

FSAVERAGE5_VERTICES = 10_242
UNREADABLE = (ImageFileError, EOFError, OSError, ValueError, zlib.error, ExpatError)
"""What nibabel and numpy raise on files that are damaged or something else."""


def resting_noise(path: Path, volumes: int, targets: int, seed: int) -> NDArray[np.float64]:
    """A stretch of a resting-state recording, each target z-scored: (volumes, targets).

    path: .mgz, .func.gii or .nii(.gz) with time last, or .npy of (volumes, targets).  The volumes are
    consecutive ones of the file, whatever its TR, and the targets neighbours on the cortex or in the
    grid. Both begin where `seed` says. Targets that don't vary are passed over.
    Raises DataError if the file can't be read or is shorter or smaller than what is needed.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", "give a resting-state recording")
    y, places = _recording(path, path.stat().st_mtime_ns)
    random = np.random.default_rng(seed)
    if len(y) < volumes:
        raise DataError(
            f"{path}: has {len(y)} volumes, {volumes} are needed",
            "give a longer recording or fewer --minutes",
        )
    start = int(random.integers(len(y) - volumes + 1))
    stretch = y[start : start + volumes]
    low, high = stretch.min(axis=0), stretch.max(axis=0)
    varying = np.flatnonzero(np.isfinite(low) & np.isfinite(high) & (high > low))
    if len(varying) < targets:
        raise DataError(
            f"{path}: has {len(varying)} targets that vary, {targets} are needed",
            "give a larger recording or ask for fewer targets",
        )
    centre = places[random.choice(varying)]
    away = np.linalg.norm(places[varying] - centre, axis=1)
    chosen = np.sort(varying[np.argsort(away, kind="stable")[:targets]])
    near = stretch[:, chosen].astype(np.float64)
    return np.asarray((near - near.mean(axis=0)) / near.std(axis=0))


@functools.lru_cache(maxsize=1)  # every run of a dataset takes its noise from one file
def _recording(path: Path, _changed_ns: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """All of a file: (volumes, targets), and where each target lies, (targets, axes)."""
    try:
        if path.suffix == ".npy":
            data = np.load(path, allow_pickle=False)
            if data.ndim != 2:
                raise DataError(f"{path}: has {data.ndim} axes", "give an array of (volumes, targets)")
            return data.astype(np.float32), _places((data.shape[1],), np.ones(1))
        image: Any = nib.load(path)  # of a class by the file's format
        if isinstance(image, nib.GiftiImage):
            data = np.stack([array.data for array in image.darrays])
            return data.astype(np.float32), _places((data.shape[1],), np.ones(1))
        data = np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise DataError(
            f"{path}: can't be read ({error})", "give a .mgz, .gii, .nii.gz or .npy file"
        ) from None
    if data.ndim != 4:
        raise DataError(
            f"{path}: {' x '.join(map(str, data.shape))} is no series of volumes", "give 4-D BOLD"
        )
    places = _places(data.shape[:3], np.asarray(image.header.get_zooms()[:3], np.float64))
    return np.ascontiguousarray(data.reshape(-1, data.shape[3]).T, np.float32), places


def _places(shape: tuple[int, ...], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places such that neighbours are near: the sphere of fsaverage5, the grid, or the order in the file."""
    if np.prod(shape) == FSAVERAGE5_VERTICES:
        # Both hemispheres share the sphere; a vertex's number says nothing of its neighbours
        return np.asarray(load_fsaverage("fsaverage5")["sphere"].parts["left"].coordinates, np.float64)
    return np.indices(shape).reshape(len(shape), -1).T * spacing
