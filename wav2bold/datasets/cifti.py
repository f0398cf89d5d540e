"""CIFTI time series: grayordinates, the cortex as vertices and what lies below it as voxels."""

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from wav2bold.errors import DataError

DTSERIES = ".dtseries.nii"


def is_cifti(image: Any) -> bool:
    """Whether an image that nibabel opened is CIFTI-2, by what it holds and not by its name."""
    return isinstance(image, nib.Cifti2Image)


def read_series(image: Any, path: Path) -> NDArray[np.float32]:
    """An opened CIFTI time series as (volumes, grayordinates) float32.

    Raises DataError if it has no time axis or no grayordinates; nibabel's own errors if it is cut short.
    """
    _axes(image, path)
    return np.asarray(image.dataobj, dtype=np.float32)


def series_tr_s(image: Any, path: Path) -> float | None:
    """Seconds between volumes by its header; None if that says 0."""
    series, _ = _axes(image, path)
    if series.unit != "SECOND":
        raise DataError(
            f"{path}: a series in {series.unit.lower()}s is no time series", f"give the *{DTSERIES} file"
        )
    return round(float(series.step), 6) or None


def grayordinates(image: Any, path: Path) -> pd.DataFrame:
    """Where each grayordinate is, one row each.

    `structure` as CIFTI names it (`CORTEX_LEFT`), `vertex` in it, or voxel `i`, `j`, `k` and its centre
    `x_mm`, `y_mm`, `z_mm`; whichever it has not is null.
    """
    model = _axes(image, path)[1]
    surface = np.asarray(model.surface_mask)
    frame = pd.DataFrame({"structure": [name.removeprefix("CIFTI_STRUCTURE_") for name in model.name]})
    frame["vertex"] = pd.array(np.where(surface, model.vertex, 0), dtype="Int32")
    frame.loc[~surface, "vertex"] = pd.NA
    for axis, letter in enumerate("ijk"):
        frame[letter] = pd.array(np.where(surface, 0, model.voxel[:, axis]), dtype="Int32")
        frame.loc[surface, letter] = pd.NA
    xyz = np.full((len(frame), 3), np.nan, np.float32)
    if not surface.all():
        xyz[~surface] = apply_affine(model.affine, model.voxel[~surface])
    for axis, letter in enumerate("xyz"):
        frame[f"{letter}_mm"] = xyz[:, axis]
    return frame


def model_words(image: Any, path: Path) -> str:
    """What must be alike in all recordings of a subject, in words."""
    model = _axes(image, path)[1]
    parts = [model.name.astype("U"), model.vertex, model.voxel, model.affine]
    content = b"".join(np.ascontiguousarray(part).tobytes() for part in parts if part is not None)
    digest = hashlib.blake2b(content, digest_size=4).hexdigest()
    return f"{len(model)} grayordinates, {int(model.surface_mask.sum())} of them vertices (model {digest})"


def _axes(image: Any, path: Path) -> tuple[Any, Any]:
    """Time, and grayordinates. Raises DataError if the file has others."""
    rows, columns = (image.header.get_axis(number) for number in (0, 1))
    if not isinstance(rows, nib.cifti2.SeriesAxis):
        names = [str(name) for name in getattr(rows, "name", [])]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        maps = "1 map" if len(rows) == 1 else f"{len(rows)} maps"
        raise DataError(
            f"{path}: {maps}{f' ({shown})' if shown else ''}, no time series", f"give the *{DTSERIES} file"
        )
    if len(rows) < 2:
        raise DataError(f"{path}: a single volume, no time series", f"give the *{DTSERIES} file")
    if not isinstance(columns, nib.cifti2.BrainModelAxis):
        raise DataError(
            f"{path}: holds {len(columns)} parcels or connections, not grayordinates",
            f"give the *{DTSERIES} file",
        )
    return rows, columns
