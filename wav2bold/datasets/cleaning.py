"""Take out of BOLD what no stimulus put there: drifts and confounds (nilearn)."""

import numpy as np
import pandas as pd
from nilearn.glm.first_level import make_first_level_design_matrix
from nilearn.signal import clean as nilearn_clean
from numpy.typing import NDArray

from wav2bold.config import Cleaning
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError
from wav2bold.options import nearest

BLOCK = 8_192
"""Targets cleaned together, in float64: a mean of 10,000 costs float32 four of its seven digits."""


def clean(
    y: NDArray[np.float32], tr_s: float, cleaning: Cleaning, confounds: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """BOLD without its first volumes, trend, drifts and confounds, each target of mean 0 and sample sd 1.

    y: (volumes, targets), every target varying.  confounds: (volumes, columns), as long as y.
    Returns (volumes - drop_first, targets) float32. What is regressed out is fitted together, after the first
    volumes were dropped.
    Raises DataError if fewer than 2 degrees of freedom would remain.
    """
    y = y[cleaning.drop_first :]
    nuisance = drifts(len(y), tr_s, cleaning.high_pass_s)
    if confounds is not None:
        nuisance = np.concatenate([nuisance, confounds[cleaning.drop_first :]], axis=1)
    taken = 1 + int(cleaning.detrend) + nuisance.shape[1]
    if len(y) < taken + 2:
        raise DataError(
            f"{len(y)} volumes, from which cleaning takes {taken} regressors",
            "raise cleaning.high_pass_s, name fewer confounds, or leave the recording out",
        )
    cleaned = np.empty(y.shape, np.float32)
    for start in range(0, y.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        cleaned[:, block] = nilearn_clean(
            y[:, block].astype(np.float64),
            detrend=cleaning.detrend,
            standardize="zscore_sample",
            confounds=nuisance if nuisance.shape[1] else None,
            filter=False,
        )
    return cleaned


def drifts(volumes: int, tr_s: float, high_pass_s: float | None) -> NDArray[np.float64]:
    """Discrete cosines of periods down to `high_pass_s`: (volumes, terms), none if that is None.

    Made here and not by `nilearn.signal.clean(filter="cosine")`, which leaves all of them out, with a warning
    only, as soon as one confound correlates with one of them above 0.9: a slow head movement does.
    """
    if high_pass_s is None or volumes < 2 or 2 * volumes * tr_s < high_pass_s:
        return np.empty((volumes, 0))
    frame_times_s = np.arange(volumes) * tr_s
    design = make_first_level_design_matrix(frame_times_s, drift_model="cosine", high_pass=1 / high_pass_s)
    return np.asarray(design.drop(columns="constant"), dtype=np.float64)


def read_confounds(run: Run, cleaning: Cleaning, volumes: int) -> NDArray[np.float64] | None:
    """The chosen columns of a run's confounds file: (volumes, columns), None if none are chosen.

    A first row that is n/a, as in derivatives, takes the second's value, as nilearn.interfaces.fmriprep does.
    Raises DataError if the file or a column is missing, is too short or too long, or holds gaps.
    """
    if not cleaning.confounds:
        return None
    if run.confounds is None:
        raise DataError(
            f"{run.bold[0]}: no *_desc-confounds_timeseries.tsv beside it",
            "add it or empty cleaning.confounds",
        )
    table = pd.read_csv(run.confounds, sep="\t", na_values=["n/a"])
    for name in cleaning.confounds:
        if name not in table:
            near = nearest(name, map(str, table.columns))
            raise DataError(
                f"{run.confounds}: has no column {name}",
                f"did you mean {near}?" if near else "name one it has",
            )
    if len(table) != volumes:
        raise DataError(
            f"{run.confounds}: {len(table)} rows, the BOLD has {volumes} volumes",
            "use the files of one recording",
        )
    chosen = table[list(cleaning.confounds)].apply(pd.to_numeric, errors="coerce").bfill(limit=1)
    gaps = chosen.columns[chosen.isna().any()]
    if len(gaps):
        raise DataError(f"{run.confounds}: {gaps[0]} holds gaps", "choose a column that is whole")
    return np.asarray(chosen, dtype=np.float64)
