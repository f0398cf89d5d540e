"""What is written is read back by nibabel, soundfile and pandas as it was given."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import soundfile

from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.spaces import fsaverage5_patch, mni_patch
from wav2bold.datasets.write_bids import write_run, write_study_files

TR_S = 1.5
SURFACE, VOLUME = fsaverage5_patch(40, 11), mni_patch(40, 11)


def recorded(volumes: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(1000, 10, (volumes, SURFACE.size)).astype(np.float32)


def test_surfaces_hold_the_given_values_and_zeros_elsewhere(tmp_path: Path) -> None:
    y = recorded()
    files = write_run(tmp_path, "sub-001", "ferry", None, SURFACE, y, TR_S, 9.0, 300.0)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "sub-001/func/sub-001_task-ferry_hemi-L_space-fsaverage5_bold.func.gii",
        "sub-001/func/sub-001_task-ferry_hemi-R_space-fsaverage5_bold.func.gii",
    ]
    left, right = (nib.load(path).agg_data("time series").T for path in files)
    brain = np.concatenate([left, right], axis=1)
    assert left.shape == right.shape == (12, 10_242)
    assert brain.dtype == np.float32
    np.testing.assert_array_equal(brain[:, SURFACE.index], y)
    assert not np.delete(brain, SURFACE.index, axis=1).any()


def test_each_surface_says_which_hemisphere_it_is(tmp_path: Path) -> None:
    files = write_run(tmp_path, "sub-001", "ferry", None, SURFACE, recorded(), TR_S, 9.0, 300.0)
    sides = [nib.load(path).meta["AnatomicalStructurePrimary"] for path in files]
    assert sides == ["CortexLeft", "CortexRight"]


def test_volumes_hold_the_given_values_and_zeros_elsewhere(tmp_path: Path) -> None:
    y = recorded()
    (path,) = write_run(tmp_path, "sub-001", "ferry", 2, VOLUME, y, TR_S, 9.0, 300.0)
    assert path.name == "sub-001_task-ferry_run-2_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    assert data.dtype == np.float32
    assert data.shape == (*VOLUME.shape, 12)
    np.testing.assert_array_equal(image.affine, VOLUME.affine)
    flat = data.reshape(-1, 12)
    np.testing.assert_array_equal(flat[VOLUME.index], y.T)
    assert not np.delete(flat, VOLUME.index, axis=0).any()


@pytest.mark.parametrize("tr_s", [0.72, 1.5, 2.0])
def test_header_and_sidecar_say_the_same_tr(tmp_path: Path, tr_s: float) -> None:
    files = [
        *write_run(tmp_path, "sub-001", "ferry", None, SURFACE, recorded(), tr_s, 9.0, 300.0),
        *write_run(tmp_path, "sub-002", "ferry", None, VOLUME, recorded(), tr_s, 9.0, 300.0),
    ]
    for path in files:
        sidecar = json.loads(path.with_name(path.name.split(".")[0] + ".json").read_text())
        assert sidecar == {"RepetitionTime": tr_s, "TaskName": "ferry"}
    assert {float(nib.load(path).meta["TimeStep"]) for path in files[:2]} == {tr_s * 1000}
    header = nib.load(files[2]).header
    assert header.get_zooms() == pytest.approx((6, 6, 6, tr_s))
    assert header.get_xyzt_units() == ("mm", "sec")


def test_events_say_when_which_sound_was_heard(tmp_path: Path) -> None:
    write_run(tmp_path, "sub-001", "ferry", 1, SURFACE, recorded(), TR_S, 9.0, 300.0)
    (events,) = tmp_path.rglob("*_events.tsv")
    assert events.name == "sub-001_task-ferry_run-1_events.tsv"
    assert pd.read_csv(events, sep="\t").to_dict("records") == [
        {"onset": 9.0, "duration": 300.0, "trial_type": "ferry", "stim_file": "ferry.wav"}
    ]


def test_sounds_keep_sixteen_bits(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, 16_000).astype(np.float32)
    write_study_files(tmp_path, ["sub-001"], {"ferry": sound})
    path = tmp_path / "stimuli" / "ferry.wav"
    read, rate_hz = soundfile.read(path)
    assert rate_hz == 16_000
    assert soundfile.info(path).subtype == "PCM_16"
    np.testing.assert_allclose(read, sound, atol=2**-15)


def test_the_dataset_says_what_it_is_and_who_took_part(tmp_path: Path) -> None:
    write_study_files(tmp_path, ["sub-001", "sub-null1"], {}, name="A trial")
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["Name"] == "A trial"
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "wav2bold"
    assert description["BIDSVersion"]
    people = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
    assert people.participant_id.tolist() == ["sub-001", "sub-null1"]


@pytest.mark.parametrize("patch", [SURFACE, VOLUME], ids=["surface", "volume"])
def test_the_bids_layout_finds_what_was_written(tmp_path: Path, patch: object) -> None:
    silence = np.zeros(1_600, np.float32)
    write_study_files(tmp_path, ["sub-001", "sub-null1"], {"ferry": silence, "bakery": silence})
    for subject in ("sub-001", "sub-null1"):
        write_run(tmp_path, subject, "bakery", None, patch, recorded(), TR_S, 9.0, 300.0)
        for repeat in (1, 2):
            write_run(tmp_path, subject, "ferry", repeat, patch, recorded(), TR_S, 9.0, 300.0)
    runs = find_runs(tmp_path)
    assert [run.name for run in runs] == [
        f"{subject}/{story}"
        for subject in ("sub-001", "sub-null1")
        for story in ("bakery", "ferry", "ferry/2")
    ]
    assert {(run.tr_s, run.onset_s, run.space) for run in runs} == {(TR_S, 9.0, patch.space)}
    assert {run.audio for run in runs} == {tmp_path / "stimuli" / f"{s}.wav" for s in ("ferry", "bakery")}


def test_the_bids_layout_takes_a_hemisphere_before_or_behind_its_space(tmp_path: Path) -> None:
    """Older fMRIPreps, and other tools, write `space` first; the standard's order is `hemi` first."""
    write_study_files(tmp_path, ["sub-001"], {"ferry": np.zeros(1_600, np.float32)})
    written = write_run(tmp_path, "sub-001", "ferry", None, SURFACE, recorded(), TR_S, 9.0, 300.0)
    (run,) = find_runs(tmp_path)
    assert run.bold == written
    renamed = []
    for path in sorted((tmp_path / "sub-001").rglob("*hemi-*")):
        side = "L" if "hemi-L" in path.name else "R"
        name = path.name.replace(f"_hemi-{side}_space-fsaverage5", f"_space-fsaverage5_hemi-{side}")
        assert name != path.name
        renamed.append(path.rename(path.with_name(name)))
    (run,) = find_runs(tmp_path)
    assert run.bold == tuple(path for path in renamed if path.name.endswith(".gii"))
    assert (run.tr_s, run.space) == (TR_S, "fsaverage5")
