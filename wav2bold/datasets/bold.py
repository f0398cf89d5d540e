"""BOLD files as matrices of volumes by targets: NIfTI, pairs of GIFTI, CIFTI, HDF5."""

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from wav2bold.datasets.cifti import grayordinates, is_cifti, model_words, read_series, series_tr_s
from wav2bold.datasets.files import check_readable
from wav2bold.datasets.matrices import columns as matrix_columns
from wav2bold.datasets.matrices import is_matrix, read_matrix
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError

SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
UNREADABLE = (ImageFileError, HeaderDataError, EOFError, OSError, ValueError, zlib.error, ExpatError)
"""What nibabel raises on damaged files; it notices a truncated one only when all of it is read."""
SIDES = ("Left", "Right")
MASK_TOLERANCE_MM = 1e-3


def read_bold(
    run: Run, mask: Path | None = None, smoothing_fwhm_mm: float | None = None
) -> NDArray[np.float32]:
    """A recording as (volumes, candidate targets) float32.

    Candidates are a volume's voxels in C order of (i, j, k), those of `mask` if there is one, the vertices of
    the left and then the right hemisphere, a CIFTI file's grayordinates or an HDF5 matrix's columns.
    `candidates` says where each is. Only volumes are smoothed.
    Raises DataError if a file is damaged, has no time axis, doesn't fit the mask or the other hemisphere, or
    says that it is of another hemisphere than its place in the pair.
    """
    path = run.bold[0]
    if is_matrix(path):
        _unmasked(mask, "columns", path)
        return read_matrix(path, run.member)
    if len(run.bold) == 1:
        image = _load(path)
        if not is_cifti(image):
            return _read_volumes(path, mask, smoothing_fwhm_mm)
        _unmasked(mask, "grayordinates", path)
        try:
            return read_series(image, path)
        except UNREADABLE as error:
            raise _damaged(path, error) from None
    _unmasked(mask, "vertices", path)
    left, right = (_read_surface(path, side) for path, side in zip(run.bold, SIDES, strict=True))
    if len(left) != len(right):
        raise DataError(
            f"{run.bold[0]}: {len(left)} volumes, {run.bold[1].name} has {len(right)}",
            "both hemispheres must hold the whole recording; write them again",
        )
    return np.concatenate([left, right], axis=1)


def candidates(run: Run, mask: Path | None = None) -> pd.DataFrame:
    """Where each candidate target of `read_bold` is, one row each.

    Volumes: voxel `i`, `j`, `k` and its centre `x_mm`, `y_mm`, `z_mm`.
    Surfaces: `hemisphere` L or R, and `vertex`.
    CIFTI: `structure`, and a `vertex` of the cortex, or a voxel as above; the other is null.
    HDF5: `column` of the matrix.
    """
    if is_matrix(run.bold[0]):
        return pd.DataFrame({"column": np.arange(matrix_columns(run.bold[0], run.member), dtype=np.int32)})
    if len(run.bold) == 1:
        image = _load(run.bold[0])
        if is_cifti(image):
            return grayordinates(image, run.bold[0])
        keep = _mask(mask, image, run.bold[0])
        shape = image.shape[:3]
        ijk = np.argwhere(keep) if keep is not None else np.indices(shape).reshape(3, -1).T
        xyz = ijk @ image.affine[:3, :3].T + image.affine[:3, 3]
        columns = {name: ijk[:, axis].astype(np.int32) for axis, name in enumerate("ijk")}
        places = {f"{name}_mm": xyz[:, axis].astype(np.float32) for axis, name in enumerate("xyz")}
        return pd.DataFrame(columns | places)
    sizes = [_read_surface(path, side).shape[1] for path, side in zip(run.bold, SIDES, strict=True)]
    hemispheres = np.repeat(["L", "R"], sizes)
    vertices = np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])
    return pd.DataFrame({"hemisphere": hemispheres, "vertex": vertices})


def has_voxels_or_vertices(run: Run) -> bool:
    """Whether a recording is a volume or a pair of surfaces, and not CIFTI or a matrix."""
    return len(run.bold) == 2 or not (is_matrix(run.bold[0]) or is_cifti(_load(run.bold[0])))


def volume_labels(path: Path, run: Run, mask: Path | None = None) -> NDArray[Any]:
    """Values of a label image at each candidate of `read_bold`: (candidates,).

    Raises DataError if it is damaged or doesn't lie on the recording's grid.
    """
    image = _load(run.bold[0])
    values = _overlaid(path, image, run.bold[0], "parcellation")
    keep = _mask(mask, image, run.bold[0])
    return np.asarray(values.reshape(-1) if keep is None else values[keep])


def surface_labels(path: Path, side: str) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Label of each vertex of a label GIFTI, and the names in its label table.

    side: one of SIDES, that it is given as.
    Raises DataError if it is damaged, or no label file, or says that it is of the other hemisphere.
    """
    image = _load(path)
    _check_side(path, image, side)
    arrays = getattr(image, "darrays", [])
    if len(arrays) != 1 or arrays[0].data.ndim != 1:
        raise DataError(f"{path}: holds no label of each vertex", "give a .label.gii with one array")
    return arrays[0].data.astype(np.int64), dict(image.labeltable.get_labels_as_dict())


def grid(run: Run, targets: int) -> str:
    """What must be alike in all recordings of a subject, in words: voxels and where they lie, or vertices."""
    if is_matrix(run.bold[0]):
        return f"{targets} columns"
    if len(run.bold) == 2:
        return f"{targets} vertices"
    image = _load(run.bold[0])
    if is_cifti(image):
        return model_words(image, run.bold[0])
    voxels, sizes = image.shape[:3], image.header.get_zooms()[:3]
    rows = ", ".join(f"({' '.join(f'{value:.2f}' for value in row)})" for row in image.affine[:3] + 0.0)
    return (
        f"{' x '.join(map(str, voxels))} voxels of {' x '.join(f'{size:g}' for size in sizes)} mm at {rows}"
    )


def varying(y: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which targets of y (volumes, targets) are finite throughout and not constant: (targets,) bool."""
    low, high = y.min(axis=0), y.max(axis=0)
    return np.asarray(np.isfinite(low) & np.isfinite(high) & (high > low))


def header_tr_s(path: Path) -> float | None:
    """Seconds between volumes by a BOLD file's own header; None if it doesn't say.

    GIFTI's `TimeStep` is milliseconds by FreeSurfer and seconds by others: no TR is 50 s or 50 ms.
    """
    if is_matrix(path):
        return None
    if path.name.endswith(".gii"):
        check_readable(path)
        with path.open("rb") as file:
            head = file.read(1 << 16)  # metadata comes before the first array
        found = re.search(rb"TimeStep\W[^0-9]*?([0-9][0-9.eE+-]*)", head)
        step = float(found[1]) if found else 0.0
        return round(step * (1e-3 if step >= 50 else 1.0), 6) or None
    image = _load(path)
    if is_cifti(image):
        return series_tr_s(image, path)
    header = image.header
    zooms = header.get_zooms()
    step = float(zooms[3]) if len(zooms) > 3 else 0.0
    return round(step * SECONDS.get(header.get_xyzt_units()[1], 1.0), 6) or None


def _read_volumes(path: Path, mask: Path | None, smoothing_fwhm_mm: float | None) -> NDArray[np.float32]:
    image = _load(path)
    if len(image.shape) != 4 or image.shape[3] < 2:
        shape = " x ".join(map(str, image.shape))
        raise DataError(f"{path}: {shape} is no series of volumes", "give the 4-D BOLD file")
    keep = _mask(mask, image, path)
    try:
        if smoothing_fwhm_mm is not None:
            from nilearn.image import smooth_img  # slow to import, seldom wanted

            image = smooth_img(image, smoothing_fwhm_mm)
        data = _values(image)
    except UNREADABLE as error:
        raise _damaged(path, error) from None
    y = np.empty((data.shape[3], data[..., 0].size if keep is None else int(keep.sum())), np.float32)
    for time, row in enumerate(y):  # a volume fits into the processor's cache, a recording doesn't
        volume = data[..., time]
        row[:] = volume.ravel() if keep is None else volume[keep]
    return y


def _values(image: Any) -> NDArray[Any]:
    """All values of an image: as they are stored, where no scale is given, or else as float32."""
    stored = image.dataobj
    if isinstance(stored, ArrayProxy) and (stored.slope, stored.inter) == (1, 0):
        data = stored.get_unscaled()
        if data.dtype.kind in "iuf":
            return np.asarray(data)
    return np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))


def _read_surface(path: Path, side: str) -> NDArray[np.float32]:
    image = _load(path)
    arrays: Sequence[NDArray[Any]] = [array.data for array in image.darrays]
    sizes = {array.shape for array in arrays}
    if len(arrays) < 2 or len(sizes) != 1 or arrays[0].ndim != 1:
        what = f"{len(arrays)} arrays of shape {', '.join(map(str, sorted(sizes)))}"
        raise DataError(f"{path}: {what} are no time series", "give a .func.gii with one array per volume")
    _check_side(path, image, side)
    return np.stack(arrays).astype(np.float32, copy=False)


def _check_side(path: Path, image: Any, side: str) -> None:
    """Raise DataError if a GIFTI file says that it is of the other hemisphere. Many don't say."""
    (other,) = {*SIDES} - {side}
    told = [getattr(part, "meta", None) or {} for part in (image, *getattr(image, "darrays", []))]
    if any(one.get("AnatomicalStructurePrimary") == f"Cortex{other}" for one in told):
        raise DataError(
            f"{path}: is given as the {side.lower()} hemisphere, its AnatomicalStructurePrimary says "
            f"Cortex{other}",
            "exchange the names of the two files, or set it right",
        )


def _unmasked(mask: Path | None, what: str, path: Path) -> None:
    if mask is not None:
        raise DataError(f"{mask}: a mask of voxels can't select {what} of {path}", "leave cleaning.mask out")


def _mask(mask: Path | None, image: Any, path: Path) -> NDArray[np.bool_] | None:
    """Voxels of the mask, checked against the volumes that it is laid over."""
    if mask is None:
        return None
    keep = _overlaid(mask, image, path, "mask") != 0
    if not keep.any():
        raise DataError(f"{mask}: selects no voxel", "give a mask that is not 0 somewhere")
    return np.asarray(keep)


def _overlaid(over_path: Path, image: Any, path: Path, what: str) -> NDArray[Any]:
    """Values of a volume that must lie on the grid of the recording `path`."""
    over = _load(over_path)
    if over.shape[:3] != image.shape[:3] or not np.allclose(
        over.affine, image.affine, atol=MASK_TOLERANCE_MM
    ):
        shapes = [" x ".join(map(str, one.shape[:3])) for one in (over, image)]
        raise DataError(
            f"{over_path}: {shapes[0]} voxels, {path} has {shapes[1]}, or they lie elsewhere",
            f"resample the {what} onto the recordings' grid",
        )
    try:
        return np.asarray(np.asanyarray(over.dataobj).reshape(image.shape[:3]))
    except UNREADABLE as error:
        raise _damaged(over_path, error) from None


def _load(path: Path) -> Any:
    """Open a file; volumes are read later, surfaces at once. nibabel has no types."""
    check_readable(path)
    try:
        return nib.load(path)
    except UNREADABLE as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return DataError(f"{path}: can't be read ({reason})", "the file is damaged or cut short; fetch it again")
