"""From what was recorded to what is predicted: voxels, vertices, or the means of regions."""

import base64
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.datasets.bold import candidates
from wav2bold.datasets.cleaning import BLOCK
from wav2bold.datasets.regions import Regions
from wav2bold.datasets.runs import Run


def to_candidates(recorded: NDArray[np.float32], regions: Regions | None) -> NDArray[np.float32]:
    """The voxels or vertices within regions: (volumes, recorded) to (volumes, candidates)."""
    return recorded if regions is None else recorded[:, regions.inside]


def to_targets(
    y: NDArray[np.float32], keep: NDArray[np.bool_], regions: Regions | None
) -> NDArray[np.float32]:
    """What is predicted of a recording: (volumes, candidates) to (volumes, targets).

    keep: (candidates,) bool; a region's mean is over its kept candidates, and a region without any is none.
    """
    y = y if keep.all() else y[:, keep]
    if regions is None or not regions.average:
        return y
    of_candidate = regions.of_candidate[keep]
    order = np.argsort(of_candidate, kind="stable")
    starts = np.flatnonzero(np.diff(of_candidate[order], prepend=-1))
    # float64: the mean of many values near 10,000 costs float32 its digits
    means = [y[:, one].mean(axis=1, dtype=np.float64) for one in np.split(order, starts[1:])]
    return np.stack(means, axis=1).astype(np.float32)


def target_ids(keep: NDArray[np.bool_], regions: Regions | None) -> NDArray[np.int64]:
    """(targets,) the region, or else the candidate, that each target is: alike in all subjects of a space."""
    if regions is None or not regions.average:
        return np.flatnonzero(keep)
    return np.unique(regions.of_candidate[keep]).astype(np.int64)


def narrowed(keep: NDArray[np.bool_], ids: NDArray[np.int64], regions: Regions | None) -> NDArray[np.bool_]:
    """The candidates of fewer targets, which `target_ids` numbers: (candidates,) bool."""
    if regions is None or not regions.average:
        return np.isin(np.arange(len(keep)), ids)
    return keep & np.isin(regions.of_candidate, ids)


def columns_among(
    keep: NDArray[np.bool_], wider: NDArray[np.bool_], regions: Regions | None
) -> NDArray[np.intp] | None:
    """Which of the targets of the candidates `wider` are those of the candidates `keep`: (targets of keep,).

    None if one isn't among them: a candidate that `wider` lacks, or a region's mean over others.
    """
    ids = target_ids(keep, regions)
    averaged = regions is not None and regions.average
    among = narrowed(wider, ids, regions) if averaged else keep & wider
    if not np.array_equal(among, keep):
        return None
    return np.searchsorted(target_ids(wider, regions), ids)


def target_table(
    run: Run, mask: Path | None, keep: NDArray[np.bool_], regions: Regions | None
) -> pd.DataFrame:
    """Where each target is, one row each, as in docs/shards.md."""
    places = candidates(run, mask)
    if regions is None:
        table = places[keep].reset_index(drop=True)
    elif regions.average:
        table = _means(places[regions.inside], keep, regions)
    else:
        table = places[regions.inside][keep].reset_index(drop=True)
        named = regions.table.iloc[regions.of_candidate[keep]][["label", "name"]].reset_index(drop=True)
        table = pd.concat([table, named], axis=1)
    table.insert(0, "target", np.arange(len(table), dtype=np.int32))
    return table


def _means(places: pd.DataFrame, keep: NDArray[np.bool_], regions: Regions) -> pd.DataFrame:
    """One row per region: how many candidates its mean is over, how many were left out, and its centre."""
    ids = target_ids(keep, regions)
    size = len(regions.table)
    table = regions.table.iloc[ids].reset_index(drop=True)
    members = np.bincount(regions.of_candidate[keep], minlength=size)
    table["members"] = members[ids].astype(np.int32)
    table["left_out"] = (np.bincount(regions.of_candidate, minlength=size) - members)[ids].astype(np.int32)
    for axis in ("x_mm", "y_mm", "z_mm"):
        if axis in places:
            total = np.bincount(regions.of_candidate[keep], places[axis].to_numpy()[keep], minlength=size)
            table[axis] = (total / np.maximum(members, 1))[ids].astype(np.float32)
    return table


def tsnr(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over standard deviation in time of y (volumes, targets): (targets,), NaN where that is 0."""
    ratio = np.full(y.shape[1], np.nan, np.float32)
    for start in range(0, y.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        values = y[:, block].astype(np.float64)
        mean, sd = values.mean(axis=0), values.std(axis=0)
        np.divide(mean, sd, out=ratio[block], where=sd > 0, casting="same_kind")
    return ratio


def pack_tsnr(values: NDArray[np.float32]) -> str:
    """Values as text, for a shard's metadata."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def unpack_tsnr(packed: str) -> NDArray[np.float32]:
    """What `pack_tsnr` made."""
    return np.frombuffer(base64.b64decode(packed), "<f4")
