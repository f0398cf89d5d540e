"""A real localizer keeps what is known of it on the way through `prepare`.

pyhrf's recording (Neurospin's localizer, Pinel et al. 2007; 128 volumes, TR 2.4 s) holds regions of one
brain: 1 and 2 answer to sentences heard, 4 to sentences read.
"""

import json
import os
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import soundfile
from nilearn.glm import ARModel, OLSModel
from nilearn.glm.first_level import make_first_level_design_matrix
from real_data import UnavailableError, pyhrf

from wav2bold.config import Cleaning
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.prepare import prepare
from wav2bold.datasets.shards import Shards, open_shards
from wav2bold.errors import DataError

TR_S = 2.4
ONSET_S = 1.2
RATE_HZ = 16_000
STEM = "sub-01_task-localizer"


@pytest.fixture(scope="module")
def source() -> Path:
    try:
        return pyhrf()
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"pyhrf's recording can't be fetched: {error}")


def paradigm(source: Path) -> pd.DataFrame:
    names = ["session", "trial_type", "onset", "duration", "amplitude"]
    events = pd.read_csv(source / "paradigm_loc.csv", sep=" ", names=names)
    return events[["trial_type", "onset", "duration"]]


@pytest.fixture(scope="module")
def recordings(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The localizer as a BIDS folder, with a sound that has a burst of noise wherever a sentence is heard."""
    root = tmp_path_factory.mktemp("localizer")
    (root / "sub-01" / "func").mkdir(parents=True)
    (root / "stimuli").mkdir()
    image = nib.load(source / "real_data_vol_4_regions_BOLD.nii.gz")
    image.header["pixdim"][4] = TR_S  # it says 1.0
    nib.save(image, root / "sub-01" / "func" / f"{STEM}_bold.nii.gz")
    (root / "sub-01" / "func" / f"{STEM}_bold.json").write_text(json.dumps({"RepetitionTime": TR_S}))
    events = paradigm(source)
    sound = np.zeros(round(304 * RATE_HZ), np.float32)
    for onset_s in events.loc[events["trial_type"] == "phraseaudio", "onset"]:
        start = round((onset_s - ONSET_S) * RATE_HZ)
        sound[start : start + RATE_HZ] = 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ)
    soundfile.write(root / "stimuli" / "localizer.wav", sound, RATE_HZ)
    (root / "sub-01" / "func" / f"{STEM}_events.tsv").write_text(
        f"onset\tduration\tstim_file\n{ONSET_S}\t304\tlocalizer.wav\n"
    )
    return root


@pytest.fixture(scope="module")
def prepared(recordings: Path, small_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    out = tmp_path_factory.mktemp("shards") / "shards"
    prepare(recordings, out, Cleaning())
    return open_shards(out)


def region_t(source: Path, shards: Shards, late_s: float = 0.0) -> pd.DataFrame:
    """Each condition's t in each region: rows are regions, columns conditions.

    Ordinary first-level model: events without length, Glover's response, noise of first order. `late_s` is
    added to the shards' clock.
    """
    labels = np.asarray(nib.load(source / "real_data_vol_4_regions_mask.nii.gz").dataobj)
    bold, targets = shards.bold("sub-01", "localizer"), shards.targets("sub-01")
    region = labels[tuple(targets[["i", "j", "k"]].to_numpy().T)]
    times_s, events = bold.time_s + ONSET_S + late_s, paradigm(source)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The following conditions contain events with null duration"
        )
        design = make_first_level_design_matrix(times_s, events, hrf_model="glover", high_pass=1 / 128)
    design["line"] = np.linspace(-1, 1, len(design))
    found = {}
    for label in range(1, 7):
        y = bold.y[:, region == label].mean(axis=1, keepdims=True).astype(float)
        rho = _lag_one(OLSModel(design.to_numpy()).fit(y).residuals)
        fit = ARModel(design.to_numpy(), rho).fit(y)
        found[label] = {
            name: float(np.squeeze(fit.Tcontrast(np.eye(design.shape[1])[column]).t))
            for column, name in enumerate(design.columns)
        }
    return pd.DataFrame(found).T


def _lag_one(residuals: np.ndarray) -> float:
    return float((residuals[1:] * residuals[:-1]).sum() / (residuals**2).sum())


def test_regions_that_hear_answer_to_sentences_heard(source: Path, prepared: Shards) -> None:
    t = region_t(source, prepared)
    assert (t.loc[[1, 2], "phraseaudio"] > 5).all()
    assert (t.loc[[1, 2], "phrasevideo"].abs() < 3).all()


def test_the_region_that_reads_answers_to_sentences_read(source: Path, prepared: Shards) -> None:
    t = region_t(source, prepared)
    assert t.loc[4, "phrasevideo"] > 5
    assert abs(t.loc[4, "phraseaudio"]) < 3


@pytest.mark.parametrize("late_s", [-2 * TR_S, 2 * TR_S])
def test_the_shards_clock_is_the_right_one(source: Path, prepared: Shards, late_s: float) -> None:
    t = region_t(source, prepared, late_s)
    assert (t.loc[[1, 2], "phraseaudio"] < 3).all()
    assert t.loc[4, "phrasevideo"] < 3


def test_just_the_voxels_that_were_recorded_are_kept(source: Path, prepared: Shards) -> None:
    labels = np.asarray(nib.load(source / "real_data_vol_4_regions_mask.nii.gz").dataobj)
    targets = prepared.targets("sub-01")
    np.testing.assert_array_equal(targets[["i", "j", "k"]], np.argwhere(labels > 0))
    assert len(targets) == 6443


def test_its_headers_wrong_tr_is_noticed(source: Path, recordings: Path, tmp_path: Path) -> None:
    for path in recordings.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(recordings)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    bold = tmp_path / "sub-01" / "func" / f"{STEM}_bold.nii.gz"
    bold.write_bytes((source / "real_data_vol_4_regions_BOLD.nii.gz").read_bytes())
    with pytest.raises(DataError, match=r"RepetitionTime is 2\.4 s, the header of .* 1 s; set the wrong one"):
        find_runs(tmp_path)
