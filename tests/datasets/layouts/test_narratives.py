"""ds002345: its clock is that of the sound, and what its authors leave out is left out and told."""

import json
from pathlib import Path

import nibabel as nib
import pytest
from published import NARRATIVES, add_narrative, narratives
from recordings import noise, save_volumes

from wav2bold.datasets.layouts.known import find
from wav2bold.datasets.layouts.manifest import as_manifest
from wav2bold.datasets.layouts.narratives import find_runs
from wav2bold.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return narratives(tmp_path / "ds002345").source


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_runs(root)
    assert caught.value.cure
    return str(caught.value)


def events(root: Path, stem: str = "sub-140_task-slumlordreach") -> Path:
    return root / stem.partition("_")[0] / "func" / f"{stem}_events.tsv"


def test_what_is_left_out_is_counted_and_told(root: Path) -> None:
    excluded, no_story, unfetched = find(root).left_out
    assert excluded == (
        "3 recordings left out, as code/scan_exclude.json says: "
        "sub-001_task-pieman_run-1, sub-021_task-pieman, sub-053_task-lucy"
    )
    assert no_story == "1 recording left out, no story in code/event_meta.json: sub-060_task-schema_run-1"
    assert unfetched == "1 recording left out, not fetched yet (`datalad get`): sub-078_task-pieman"


def test_an_excluded_task_does_not_take_along_one_that_begins_like_it(root: Path) -> None:
    runs = find_runs(root)
    assert [run.story for run in runs if run.subject == "sub-021"] == ["piemanpni"]


def test_a_sound_begins_with_its_music_and_not_with_its_story(root: Path) -> None:
    """event_meta.json says volume 10, 15 s, of the story; the published sound is as long as the scan."""
    onsets = {run.story: run.onset_s for run in find_runs(root)}
    assert onsets == {"pieman": 0.0, "piemanpni": 12.0, "milkywayvodka": 0.0, "slumlordreach": 4.5}


def test_volumes_are_read_where_they_are_asked_for(root: Path) -> None:
    runs = find_runs(root, "MNI152NLin2009cAsym_res-native")
    assert [run.name for run in runs] == [run.name for run in find_runs(root)]
    assert all(run.bold[0].name.endswith("_desc-clean_bold.nii.gz") for run in runs)
    assert {run.space for run in runs} == {"MNI152NLin2009cAsym_res-native"}


def test_events_that_are_not_those_of_the_table_are_refused(root: Path) -> None:
    path = events(root)
    path.write_text(path.read_text().replace("969.5", "646"))
    assert refusal(root).startswith(
        f"{path}: its stories begin at 29.5 s, 646 s and last 903 s, 825 s, by code/event_meta.json "
        "they begin at 30 s, 969 s and last 903 s, 825 s; set the wrong one"
    )
    path.write_text("onset\tduration\ttrial_type\tstim_file\n4.5\t22\tmusic\tslumlordreach_audio.wav\n")
    assert "its stories begin at none and last none" in refusal(root)


def test_a_missing_piece_is_asked_for_by_name(root: Path) -> None:
    path = events(root)
    text = path.read_text()
    path.write_text(text.replace("stim_file", "sound"))
    assert refusal(root) == f"{path}: has no column stim_file; fetch it again"
    path.write_bytes(b"\xff\xfe\n")
    assert refusal(root) == f"{path}: is no table of events; fetch it again"
    path.write_text("")
    assert refusal(root) == f"{path}: is no table of events; fetch it again"
    path.unlink()
    assert refusal(root) == f"{path}: no such file; fetch it: it says when the sound began"
    path.write_text(text)
    sound = root / "stimuli" / "slumlordreach_audio.wav"
    sound.unlink()
    assert refusal(root).startswith(f"{sound}: no such file, {path.name} names it; fetch it")


def test_a_tasks_recordings_may_share_an_events_file(root: Path) -> None:
    before = find_runs(root)
    events(root).rename(root / "task-slumlordreach_events.tsv")
    assert find_runs(root) == before


def test_a_sound_may_bear_its_tasks_name(root: Path) -> None:
    path = events(root)
    path.write_text(path.read_text().replace("slumlordreach_audio", "slumlord_audio"))
    assert find_runs(root)[-1].audio == root / "stimuli" / "slumlordreach_audio.wav"


@pytest.mark.parametrize(("gone", "kept"), [("L", "R"), ("R", "L")])
def test_a_hemisphere_without_the_other_is_named(root: Path, gone: str, kept: str) -> None:
    folder = root / "derivatives" / "afni-nosmooth" / "sub-026" / "func"
    stem = "sub-026_task-milkyway_space-fsaverage6_hemi-{}_desc-clean.func.gii"
    (folder / stem.format(gone)).unlink()
    expected = f"{folder / stem.format(kept)}: has no partner {stem.format(gone)}; put both"
    assert refusal(root).startswith(expected)


def test_another_tr_in_the_header_of_volumes_is_refused(root: Path) -> None:
    path = next((root / "derivatives").rglob("sub-026*_bold.nii.gz"))
    save_volumes(path, noise(2, 2, 1, 30), 2.0)
    with pytest.raises(DataError) as caught:
        find_runs(root, "MNI152NLin2009cAsym_res-native")
    message = f"{path}: its header says a TR of 2 s, the collection's is 1.5 s; set the wrong one of the two"
    assert str(caught.value).startswith(message)


def test_a_surfaces_own_time_step_is_not_believed(root: Path) -> None:
    for path in (root / "derivatives").rglob("sub-026*.gii"):
        image = nib.load(path)
        image.meta["TimeStep"] = "1000"
        nib.save(image, path)
    assert {run.tr_s for run in find_runs(root)} == {1.5}
    (root / "runs.tsv").write_text(as_manifest(find_runs(root)))
    assert {run.tr_s for run in find(root / "runs.tsv").runs} == {1.5}


@pytest.mark.parametrize("name", ["event_meta.json", "scan_exclude.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"pieman": 3}', '{"pieman": {"a": 3}}'])
def test_a_damaged_table_is_named(root: Path, name: str, content: str) -> None:
    path = root / "code" / name
    path.write_text(content)
    assert refusal(root) == f"{path}: is not the collection's table of tasks; fetch it again"


def test_missing_exclusions_are_not_taken_for_none(root: Path) -> None:
    (root / "code" / "scan_exclude.json").unlink()
    assert refusal(root).endswith("scan_exclude.json: no such file; fetch the collection's code folder")


def test_a_collection_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    tables = {"event_meta.json": {}, "scan_exclude.json": {}}
    for name, table in tables.items():
        (tmp_path / "code" / name).write_text(json.dumps(table))
    (tmp_path / "derivatives" / "afni-nosmooth").mkdir(parents=True)
    looked_for = "derivatives/afni-nosmooth/sub-*/func/sub-*_space-fsaverage6_hemi-L_desc-clean.func.gii"
    assert refusal(tmp_path) == f"{tmp_path}: no recordings found; looked for {looked_for}"
    y = noise(5, 4)
    add_narrative(tmp_path, "sub-060", "sub-060_task-schema_run-1", y, y, NARRATIVES["lucy"][1])
    assert "every recording is left out; fetch some" in refusal(tmp_path)
