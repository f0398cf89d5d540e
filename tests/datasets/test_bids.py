"""What a BIDS folder says is read as BIDS says, and what it leaves open is asked for."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from recordings import SPACE, add_events, add_story, add_surfaces, add_volumes, noise, save_volumes

from wav2bold.datasets.bold import read_bold
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.errors import DataError

Y = noise(2, 2, 2, 10)


def refusal(root: Path, space: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        find_runs(root, space)
    assert caught.value.cure
    return str(caught.value)


def test_a_run_says_what_its_files_say(tmp_path: Path) -> None:
    audio = add_story(tmp_path, "story1")
    bold = add_volumes(tmp_path, Y, "sub-007", "story1", onset_s=3.25, tr_s=1.5)
    (run,) = find_runs(tmp_path)
    assert (run.subject, run.story, run.repeat, run.bold) == ("sub-007", "story1", 1, (bold,))
    assert (run.audio, run.tr_s, run.onset_s, run.confounds) == (audio, 1.5, 3.25, None)
    assert run.space == SPACE


def test_volumes_need_not_be_compressed(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    packed = add_volumes(tmp_path, Y)
    plain = packed.with_suffix("")
    nib.save(nib.load(packed), plain)
    packed.unlink()
    (run,) = find_runs(tmp_path)
    assert run.bold == (plain,)
    np.testing.assert_array_equal(read_bold(run), Y.reshape(8, 10).T)


def test_surfaces_come_in_pairs_left_first(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    left, right = add_surfaces(tmp_path, noise(5, 3), noise(5, 3))
    (run,) = find_runs(tmp_path)
    assert run.bold == (left, right)
    right.unlink()
    assert refusal(tmp_path).startswith(f"{left}: has no partner {right.name}; put both hemispheres")


def test_repeats_are_numbered_by_run_and_not_by_name(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    for run in (10, 2, 9):
        add_volumes(tmp_path, Y, run=run, onset_s=float(run))
    runs = find_runs(tmp_path)
    assert [(run.repeat, run.onset_s) for run in runs] == [(1, 2.0), (2, 9.0), (3, 10.0)]


def test_one_scan_may_hold_several_stories(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    add_story(tmp_path, "story2")
    bold = add_volumes(tmp_path, Y)
    events = next((tmp_path / "sub-01" / "func").glob("*_events.tsv"))
    events.write_text("onset\tduration\tstim_file\n1\t5\tstory2.wav\n3\t1\tn/a\n9\t5\tstimuli/story1.wav\n")
    runs = find_runs(tmp_path)
    assert [(run.story, run.onset_s, run.bold) for run in runs] == [
        ("story2", 1.0, (bold,)),
        ("story1", 9.0, (bold,)),
    ]


def test_without_stim_file_the_trial_type_is_the_story(tmp_path: Path) -> None:
    audio = add_story(tmp_path, "alice")
    add_volumes(tmp_path, Y)
    events = next((tmp_path / "sub-01" / "func").glob("*_events.tsv"))
    events.write_text("onset\tduration\ttrial_type\n0\t4\tfixation\n4\t20\talice\n")
    (run,) = find_runs(tmp_path)
    assert (run.story, run.audio, run.onset_s) == ("alice", audio, 4.0)
    events.write_text("onset\tduration\ttrial_type\n0\t4\tfixation\n")
    assert "trial_type names fixation, which is not under a stimuli/ folder" in refusal(tmp_path)


def test_derivatives_find_the_events_and_sounds_of_the_raw_data(tmp_path: Path) -> None:
    """Preprocessing writes neither; bids2table's indexer passes over such folders, silently."""
    raw, derived = tmp_path / "ds[1]", tmp_path / "ds[1]" / "derivatives" / "fmriprep-23.2.1"
    audio = add_story(raw, "story1")
    events = add_events(raw, "sub-01_task-story1_run-1", "story1", 6.0)
    save_volumes(events.with_name("sub-01_task-story1_run-1_bold.nii.gz"), Y, 2.0)
    bold = add_volumes(derived, Y)
    next((derived / "sub-01" / "func").glob("*_events.tsv")).unlink()
    confounds = bold.with_name("sub-01_task-story1_run-1_desc-confounds_timeseries.tsv")
    confounds.write_text("csf\n" + "1\n" * 10)
    (run,) = find_runs(raw)
    assert (run.bold, run.audio, run.onset_s, run.confounds) == ((bold,), audio, 6.0, confounds)


def test_a_sidecar_above_is_inherited_and_one_beside_wins(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    bold = add_volumes(tmp_path, Y, tr_s=2.0, header_tr_s=0.0)
    beside = bold.with_name(bold.name.replace(".nii.gz", ".json"))
    (tmp_path / "task-story1_bold.json").write_text(json.dumps({"RepetitionTime": 1.25}))
    (tmp_path / "task-other_bold.json").write_text(json.dumps({"RepetitionTime": 9.0}))
    assert find_runs(tmp_path)[0].tr_s == 2.0
    beside.unlink()
    assert find_runs(tmp_path)[0].tr_s == 1.25


def test_a_header_alone_gives_the_tr(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    bold = add_volumes(tmp_path, Y, tr_s=0.72)
    bold.with_name(bold.name.replace(".nii.gz", ".json")).unlink()
    assert find_runs(tmp_path)[0].tr_s == 0.72  # the header's float32 says 0.7200000286
    image = nib.load(bold)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 720.0
    nib.save(nib.Nifti1Image(Y, image.affine, image.header), bold)
    assert find_runs(tmp_path)[0].tr_s == 0.72


@pytest.mark.parametrize("step", ["1500.000000", "1.5"])
def test_a_gifti_timestep_is_understood(tmp_path: Path, step: str) -> None:
    add_story(tmp_path, "story1")
    for path in add_surfaces(tmp_path, noise(5, 3), noise(5, 3)):
        image = nib.load(path)
        image.darrays[0].meta["TimeStep"] = step
        nib.save(image, path)
        path.with_name(path.name.replace(".func.gii", ".json")).unlink()
    assert find_runs(tmp_path)[0].tr_s == 1.5


def test_trs_that_disagree_are_both_named(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    bold = add_volumes(tmp_path, Y, tr_s=2.4, header_tr_s=1.0)
    message = refusal(tmp_path)
    assert f"RepetitionTime is 2.4 s, the header of {bold.name} 1 s" in message


def test_no_tr_at_all_is_asked_for(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    bold = add_volumes(tmp_path, Y, header_tr_s=0.0)
    sidecar = bold.with_name(bold.name.replace(".nii.gz", ".json"))
    sidecar.write_text("{}")
    assert refusal(tmp_path).endswith(f"write it, in seconds, to {sidecar.name}")
    sidecar.write_text("{'RepetitionTime': 2")
    assert refusal(tmp_path).startswith(f"{sidecar}: not JSON with a RepetitionTime in seconds")


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path}: no recordings found; looked for sub-*_desc-preproc_bold.nii.gz")
    assert "give the folder that fMRIPrep wrote" in message
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_several_spaces_need_a_choice(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    bold = add_volumes(tmp_path, Y)
    add_surfaces(tmp_path, noise(5, 3), noise(5, 3))
    assert f"recordings in 2 spaces ({SPACE}, fsaverage5)" in refusal(tmp_path)
    assert find_runs(tmp_path, SPACE)[0].bold == (bold,)
    assert len(find_runs(tmp_path, "fsaverage5")[0].bold) == 2
    assert f"in space T1w (there are {SPACE}, fsaverage5)" in refusal(tmp_path, "T1w")


def test_a_recording_without_events_or_sound_is_named(tmp_path: Path) -> None:
    audio = add_story(tmp_path, "story1")
    bold = add_volumes(tmp_path, Y)
    audio.unlink()
    message = refusal(tmp_path)
    assert "stim_file names story1.wav, which is not under a stimuli/ folder" in message
    assert str(tmp_path / "stimuli") in message
    events = next((tmp_path / "sub-01" / "func").glob("*_events.tsv"))
    events.write_text("onset\tduration\nx\t1\n")
    assert "has the columns onset, duration" in refusal(tmp_path)
    events.unlink()
    assert refusal(tmp_path).startswith(
        f"{bold}: no events file says which story was heard; write sub-01_task-"
    )


def test_an_onset_that_is_no_number_is_named_by_line(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    add_volumes(tmp_path, Y)
    events = next((tmp_path / "sub-01" / "func").glob("*_events.tsv"))
    events.write_text("onset\tduration\tstim_file\nsoon\t1\tstory1.wav\n")
    assert f"{events}: line 2: onset soon is no number; write seconds" in refusal(tmp_path)
