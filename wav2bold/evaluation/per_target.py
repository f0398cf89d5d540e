"""Scores of every target: what a map or another analysis begins from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wav2bold.evaluation.shares import explained_variance, of_ceiling
from wav2bold.evaluation.significance import prediction_p, significant
from wav2bold.places import written
from wav2bold.trainables.scores import pearson


@dataclass(frozen=True)
class PerTarget:
    """One encoder on one subject's test stories, (V,) each.

    r: Pearson's.  of_ceiling: r as a share of the noise ceiling, NaN where that is below 0.1 or unknown.
    r2: explained variance.  p: one-sided, by exchanged blocks.  predicted: whether chance doesn't explain r,
    with a false discovery rate of 5%.
    """

    r: NDArray[np.float64]
    of_ceiling: NDArray[np.float64]
    r2: NDArray[np.float64]
    p: NDArray[np.float64]
    predicted: NDArray[np.bool_]


def per_target(
    y: NDArray[np.floating],
    predicted: NDArray[np.floating],
    story: NDArray[np.str_],
    tr_s: float,
    ceiling: NDArray[np.float64],
) -> PerTarget:
    """Scores of a prediction. y, predicted: (T, V).  story: (T,).  ceiling: (V,)."""
    r, p = pearson(y, predicted), prediction_p(y, predicted, story, tr_s)
    return PerTarget(r, of_ceiling(r, ceiling), explained_variance(y, predicted), p, significant(p))


def write_per_target(path: Path, rows: Sequence[tuple[str, str, int | None, PerTarget]]) -> None:
    """Write a Parquet file with a row per target. rows: encoder, subject, layer and scores of each."""
    tables = [
        pa.table(
            {
                "encoder": pa.repeat(encoder, len(one.r)),
                "subject": pa.repeat(subject, len(one.r)),
                "layer": pa.repeat(pa.scalar(layer, pa.int32()), len(one.r)),
                "target": np.arange(len(one.r), dtype=np.int32),
                "r": one.r.astype(np.float32),
                "of_ceiling": one.of_ceiling.astype(np.float32),
                "r2": one.r2.astype(np.float32),
                "p": one.p.astype(np.float32),
                "predicted": one.predicted,
            }
        )
        for encoder, subject, layer, one in rows
    ]
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables(tables), path)
