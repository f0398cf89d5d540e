"""Regions of a brain: which candidate target belongs to which, and what they are called."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.config import Targets
from wav2bold.datasets.bold import has_voxels_or_vertices, surface_labels, volume_labels
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError, may_not_be_read
from wav2bold.options import nearest
from wav2bold.pages.words import some

VOLUME, SURFACE = (".nii.gz", ".nii"), ".gii"
NAMES = (".tsv", ".json", ".txt")
LINE = re.compile(r"\s*(\d+)[\s,:]+(.*?)(?:\s+\d+){4}\s*$|\s*(\d+)[\s,:]+(.*?)\s*$")
"""`index name`, with or without the four numbers of a colour, as FreeSurfer's tables have."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions as they lie on a recording.

    member: (recorded,) row of `table` that each voxel or vertex of `read_bold` belongs to, -1 for none.
    table: a row per region: `label`, its number in the file, `name`, and on surfaces `hemisphere`.
    average: whether a region's mean is a target, or each of its voxels or vertices.
    """

    member: NDArray[np.int32]
    table: pd.DataFrame
    average: bool

    @property
    def inside(self) -> NDArray[np.bool_]:
        """(recorded,) bool: the candidates among what was recorded."""
        return self.member >= 0

    @property
    def of_candidate(self) -> NDArray[np.int32]:
        """(candidates,) row of `table` of each candidate."""
        return self.member[self.inside]


def region_files(targets: Targets) -> list[Path]:
    """The files that `read_regions` reads."""
    names = _names_file(targets.parcellation[0]) if len(targets.parcellation) == 1 else None
    return [*targets.parcellation, *([names] if names else [])]


def read_regions(
    run: Run, mask: Path | None, targets: Targets, recorded: int | None = None
) -> Regions | None:
    """The regions that the options name, laid over a recording; None if they name no parcellation.

    recorded: voxels or vertices of the recording, to be checked against surfaces' labels.
    Raises DataError if the files are damaged, don't fit the recording, or lack a region that is asked for.
    """
    if not targets.parcellation:
        return None
    first, volumes = targets.parcellation[0], len(run.bold) == 1
    if not has_voxels_or_vertices(run):
        raise DataError(
            f"{first}: can't be laid over {run.bold[0]}, which is no volume and no pair of surfaces",
            "leave targets.parcellation out",
        )
    if not first.name.endswith(VOLUME if volumes else SURFACE):
        kinds = ("voxels", "one NIfTI label image") if volumes else ("vertices", "left and right label GIFTI")
        raise DataError(f"{first}: can't be laid over {kinds[0]} of {run.bold[0]}", f"give {kinds[1]}")
    if volumes:
        found, table = _volume(first, run, mask)
    else:
        found, table = _surfaces(targets.parcellation)
    if recorded is not None and recorded != len(found):
        raise DataError(
            f"{first}: {len(found)} vertices on both sides, {run.bold[0]} and its partner have {recorded}",
            "give labels of the recordings' own surface",
        )
    wanted = _wanted(first, table, targets.rois)
    rows = np.full(len(table) + 1, -1, np.int32)  # one more, so that -1 stays -1
    rows[np.flatnonzero(wanted)] = np.arange(wanted.sum())
    table = table[wanted].reset_index(drop=True).astype({"label": np.int32, "name": "string"})
    return Regions(rows[found], table, targets.average)


def _volume(path: Path, run: Run, mask: Path | None) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Row of each voxel, -1 for background, and the rows."""
    labels = _whole(path, volume_labels(path, run, mask))
    names = read_names(path)
    present = np.unique(labels[labels > 0])
    table = pd.DataFrame({"label": present, "name": [names.get(int(label)) for label in present]})
    return _rows(labels, present), table


def _surfaces(paths: tuple[Path, ...]) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Row of each vertex of the left and then the right hemisphere, and the rows."""
    if len(paths) == 1:
        raise DataError(f"{paths[0]}: labels of one hemisphere", "give left and right, in a list")
    rows, tables, before = [], [], 0
    for hemisphere, path in zip("LR", paths, strict=True):
        labels, names = surface_labels(path)
        present = np.unique(labels[labels > 0])
        own = _rows(labels, present)
        rows.append(np.where(own < 0, -1, own + before))
        before += len(present)
        called = [names.get(int(label)) for label in present]
        tables.append(pd.DataFrame({"hemisphere": hemisphere, "label": present, "name": called}))
    return np.concatenate(rows), pd.concat(tables, ignore_index=True)


def _rows(labels: NDArray[np.int64], present: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(labels > 0, np.searchsorted(present, labels), -1)


def _whole(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    odd = values[~np.isfinite(values) | (values != np.round(values))]
    if len(odd):
        raise DataError(f"{path}: holds {odd[0]:g}, which is no label", "give a label image of whole numbers")
    return values.astype(np.int64)


def _wanted(path: Path, table: pd.DataFrame, rois: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which rows are asked for by name; all of them if none is."""
    names = table["name"]
    if not len(table):
        raise DataError(f"{path}: labels nothing within the recordings", "check that it is the right file")
    if rois and names.isna().all():
        raise DataError(
            f"{path}: its regions have no names",
            f"write them to {_stem(path)}.tsv with the columns index and name",
        )
    known = [name for name in names.unique() if name is not None]
    for roi in rois:
        if roi not in known:
            near = nearest(roi, known)
            raise DataError(
                f"{path}: has no region {roi}",
                f"did you mean {near}?" if near else f"there are {some(known)}",
            )
    return np.asarray(names.isin(rois)) if rois else np.ones(len(table), bool)


def read_names(path: Path) -> dict[int, str]:
    """Names of the labels of a NIfTI image, from the file beside it; empty if there is none.

    Raises DataError if that file holds no index and name.
    """
    names = _names_file(path)
    if names is None:
        return {}
    try:
        text = names.read_text(encoding="utf-8-sig")
        found = {".tsv": _from_table, ".json": _from_json, ".txt": _from_lines}[names.suffix](text)
    except PermissionError:
        raise may_not_be_read(names) from None
    except (OSError, ValueError, LookupError, AttributeError):
        found = {}
    if not found:
        raise DataError(
            f"{names}: holds no names of labels",
            "write a .tsv with the columns index and name, a .json of index: name, or a .txt of index name",
        )
    return found


def _from_table(text: str) -> dict[int, str]:
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    index, name = rows[0].index("index"), rows[0].index("name")
    return {int(row[index]): row[name].strip() for row in rows[1:]}


def _from_json(text: str) -> dict[int, str]:
    data: Mapping[str, Any] = json.loads(text)
    return {int(index): str(name) for index, name in data.items()}


def _from_lines(text: str) -> dict[int, str]:
    lines = [LINE.match(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {int(found[1] or found[3]): found[2] or found[4] for found in lines if found is not None}


def _names_file(path: Path) -> Path | None:
    beside = (path.with_name(_stem(path) + suffix) for suffix in NAMES)
    return next((candidate for candidate in beside if candidate.is_file()), None)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
