"""Take out of BOLD what no stimulus put there: drifts and confounds (nilearn)."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from nilearn.glm.first_level import make_first_level_design_matrix
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy
from nilearn.signal import standardize_signal
from numpy.typing import NDArray
from scipy.linalg import orth

from wav2bold.config import Cleaning
from wav2bold.datasets.files import is_there
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError
from wav2bold.options import nearest

FMRIPREP_HIGH_PASS_S = 128
"""Slowest period that the cosines in fMRIPrep's confounds file keep."""
EPS = float(np.finfo(np.float64).eps)
BLOCK = 2_048
"""Targets cleaned together, in float64: a mean of 10,000 costs float32 four of its seven digits.

Few enough to stay in a processor's cache: 8,192 of 150 volumes take a sixth longer."""


def clean(
    y: NDArray[np.float32],
    tr_s: float,
    cleaning: Cleaning,
    confounds: NDArray[np.float64] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """BOLD without its ends, trend, drifts and confounds, each target of mean 0 and sample sd 1.

    y: (volumes, targets), every target varying.  confounds: (volumes, columns), as long as y.
    out: where the result is written, if not to a new array; it may be the steady volumes of y itself.
    Returns (volumes - drop_first - drop_last, targets) float32. What is regressed out is fitted together,
    after the volumes at both ends were dropped.
    Raises DataError if fewer than 2 degrees of freedom would remain.
    """
    kept = steady(len(y), cleaning)
    y = y[kept]
    nuisance = drifts(len(y), tr_s, cleaning.high_pass_s)
    if cleaning.detrend:
        nuisance = np.concatenate([np.arange(len(y), dtype=np.float64)[:, None], nuisance], axis=1)
    if confounds is not None:
        nuisance = np.concatenate([nuisance, confounds[kept]], axis=1)
    taken = 1 + nuisance.shape[1]
    if len(y) < taken + 2:
        raise DataError(
            f"{len(y)} volumes, from which cleaning takes {taken} regressors",
            "raise cleaning.high_pass_s, name fewer confounds, or leave the recording out",
        )
    spanned = _basis(nuisance)
    cleaned = np.empty(y.shape, np.float32) if out is None else out
    for start in range(0, y.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        values = y[:, block].astype(np.float64)
        values -= values.mean(axis=0)
        values -= spanned @ (spanned.T @ values)
        sd = np.sqrt(np.einsum("tv,tv->v", values, values) / (len(values) - 1))
        sd[sd < EPS] = 1.0  # nothing is left: 0 throughout
        np.divide(values, sd, out=cleaned[:, block], casting="same_kind")
    return cleaned


def _basis(nuisance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal columns, of mean 0, that span regressors of any scale, alike ones once: (volumes, rank).

    `nilearn.signal.clean` goes on with a matrix of volumes by volumes, not of a few columns, and copies every
    step: it takes three to five times as long as `clean` here. Of confounds that are alike it may take the
    difference, which is rounding, for another confound.
    """
    return np.asarray(orth(standardize_signal(nuisance)), np.float64) if nuisance.shape[1] else nuisance


def steady(volumes: int, cleaning: Cleaning) -> slice:
    """The volumes of a scan that remain when those at both ends are dropped."""
    return slice(cleaning.drop_first, max(volumes - cleaning.drop_last, cleaning.drop_first))


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


def confound_files(run: Run, cleaning: Cleaning) -> list[Path]:
    """The files that `read_confounds` would read."""
    if run.confounds is None or not (cleaning.confounds or cleaning.confounds_strategy):
        return []
    sidecar = _sidecar(run.confounds)
    named = cleaning.confounds_strategy == "compcor" and is_there(sidecar)
    return [run.confounds, *([sidecar] if named else [])]


def read_confounds(run: Run, cleaning: Cleaning, volumes: int) -> NDArray[np.float64] | None:
    """The chosen columns of a run's confounds file: (volumes, columns), None if none are chosen.

    A first row that is n/a, as in derivatives, takes the second's value, as nilearn.interfaces.fmriprep does.
    Raises DataError if the file or a column is missing, is too short or too long, or holds gaps.
    """
    if not (cleaning.confounds or cleaning.confounds_strategy):
        return None
    if run.confounds is None:
        key = "confounds" if cleaning.confounds else "confounds_strategy"
        raise DataError(
            f"{run.bold[0]}: no *_desc-confounds_timeseries.tsv beside it",
            f"add it or empty cleaning.{key}",
        )
    chosen = (
        _columns(run.confounds, cleaning)
        if cleaning.confounds
        else _strategy(run.confounds, cleaning, volumes)
    )
    if len(chosen) != volumes:
        raise DataError(
            f"{run.confounds}: {len(chosen)} rows, the BOLD has {volumes} volumes",
            "use the files of one recording",
        )
    chosen = chosen.apply(pd.to_numeric, errors="coerce").bfill(limit=1)
    gaps = chosen.columns[chosen.isna().any()]
    if len(gaps):
        raise DataError(f"{run.confounds}: {gaps[0]} holds gaps", "choose a column that is whole")
    return np.asarray(chosen, dtype=np.float64)


def _columns(path: Path, cleaning: Cleaning) -> pd.DataFrame:
    table = pd.read_csv(path, sep="\t", na_values=["n/a"])
    for name in cleaning.confounds:
        if name not in table:
            near = nearest(name, map(str, table.columns))
            raise DataError(
                f"{path}: has no column {name}", f"did you mean {near}?" if near else "name one it has"
            )
    return table[list(cleaning.confounds)]


def _strategy(path: Path, cleaning: Cleaning, volumes: int) -> pd.DataFrame:
    """The columns of a named strategy. Its cosines go where cleaning takes drifts as fast as theirs."""
    name, sidecar = cleaning.confounds_strategy, _sidecar(path)
    if name == "compcor" and not sidecar.is_file():
        raise DataError(
            f"{path}: no {sidecar.name} beside it says which components are whose",
            "fetch it, or take cleaning.confounds_strategy: simple",
        )
    with TemporaryDirectory() as folder:
        # nilearn finds confounds by the names that fMRIPrep gives: ours may be called otherwise
        bold = str(Path(folder, "sub-1_desc-preproc_bold.nii.gz"))
        for given in (path, sidecar):
            if given.is_file():
                Path(folder, f"sub-1_desc-confounds_timeseries{given.suffix}").symlink_to(given.resolve())
        try:
            if name == "motion":
                table, kept = load_confounds(bold, ("motion", "high_pass"), demean=False)
            else:
                more = {"n_compcor": cleaning.compcor_components} if name == "compcor" else {}
                table, kept = load_confounds_strategy(bold, name, demean=False, **more)
        except (ValueError, KeyError) as error:
            reason = str(error).splitlines()[0].partition(". You may")[0]
            raise DataError(
                f"{path}: can't give the strategy {name} ({' '.join(reason.split())})",
                "take another cleaning.confounds_strategy, or name columns in cleaning.confounds",
            ) from None
    left_out = [] if kept is None else np.setdiff1d(np.arange(len(table)), kept).tolist()
    unsteady = [t for t in left_out if cleaning.drop_first <= t < volumes - cleaning.drop_last]
    if unsteady:
        raise DataError(
            f"{path}: says that the scanner was not steady up to volume {unsteady[-1]}",
            f"set cleaning.drop_first: {unsteady[-1] + 1}",
        )
    if cleaning.high_pass_s is not None and cleaning.high_pass_s <= FMRIPREP_HIGH_PASS_S:
        table = table[[column for column in table if not column.startswith("cosine")]]
    return pd.DataFrame(table)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")
