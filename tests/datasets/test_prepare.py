"""`prepare` writes what its inputs say, once, and nothing when they are wrong."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow.dataset as pads
import pytest
import ray
from recordings import add_events, add_story, add_surfaces, add_volumes, noise
from stores import writes

from wav2bold import steps
from wav2bold.cluster import connect
from wav2bold.config import Cleaning
from wav2bold.datasets.audio import read_audio
from wav2bold.datasets.memory import WORKER_BYTES
from wav2bold.datasets.prepare import Prepared, prepare
from wav2bold.datasets.recording import story_times_s
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.tasks import memory_of
from wav2bold.errors import DataError
from wav2bold.places import Place

pytestmark = pytest.mark.usefixtures("small_ray")
PLAIN = Cleaning(high_pass_s=None, detrend=False)


def zscore(y: np.ndarray) -> np.ndarray:
    y = y.astype(np.float64)
    return (y - y.mean(axis=0)) / y.std(axis=0, ddof=1)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two subjects of volumes: sub-01 hears story1 twice and story2 once, sub-02 story1."""
    root = tmp_path / "recordings"
    add_story(root, "story1", 20.0, seed=1)
    add_story(root, "story2", 65.0, seed=2)
    add_volumes(root, noise(3, 4, 2, 14, seed=1), "sub-01", "story1", run=1, onset_s=3.0)
    add_volumes(root, noise(3, 4, 2, 13, seed=2), "sub-01", "story1", run=2, onset_s=3.0)
    add_volumes(root, noise(3, 4, 2, 40, seed=3), "sub-01", "story2", run=1, onset_s=0.7)
    add_volumes(root, noise(3, 4, 2, 14, seed=4), "sub-02", "story1", run=1, onset_s=3.0)
    return root


def test_shards_hold_the_recordings_z_scored(recordings: Path, out: Place) -> None:
    done = prepare(recordings, out, PLAIN)
    assert (done.written, done.kept, done.removed) == (2 + 4 + 2, 0, 0)
    shards = open_shards(out)
    assert shards.card == done.card
    assert shards.card.tr_s == 2.0
    assert shards.card.subjects["sub-01"].stories == {"story1": 2, "story2": 1}
    assert shards.card.subjects["sub-01"].targets == 24
    assert shards.card.stories["story2"].seconds == 65.0
    np.testing.assert_array_equal(shards.audio("story2"), read_audio(recordings / "stimuli" / "story2.wav"))

    one, two = (zscore(noise(3, 4, 2, n, seed=s).reshape(24, n).T) for n, s in ((14, 1), (13, 2)))
    first, second = shards.repeats("sub-01", "story1")
    np.testing.assert_allclose(first.y, one, atol=1e-4)
    np.testing.assert_allclose(second.y, two, atol=1e-4)
    np.testing.assert_array_equal(first.time_s, 2.0 * np.arange(14) - 3.0)
    mean = shards.bold("sub-01", "story1")
    np.testing.assert_array_equal(mean.t, np.arange(13))
    np.testing.assert_allclose(mean.y, (one[:13] + two) / 2, atol=1e-4)
    np.testing.assert_array_equal(shards.bold("sub-01", "story2").time_s[:3], [-0.7, 1.3, 3.3])


@pytest.mark.parametrize(
    ("recordings", "out", "said"),
    [("none", "shards", "none: no such folder"), ("full", "full", "full: is not empty")],
)
def test_a_wrong_folder_is_told_before_a_ray_is_started(
    recordings: str, out: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "connected", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(DataError, match=said):
        steps.prepare(tmp_path / recordings, tmp_path / out)


def test_times_in_the_story_are_exact() -> None:
    times = story_times_s(np.arange(5, dtype=np.int32), 1.1, 0.3)
    assert 3 * 1.1 - 0.3 != 3.0  # what floats give
    assert list(times) == [-0.3, 0.8, 1.9, 3.0, 4.1]


def test_targets_say_where_they_are_and_which_did_not_vary(recordings: Path, out: Place) -> None:
    y = noise(3, 4, 2, 14, seed=4)
    y[1, 2, 0] = 7.0
    y[2, 3, 1, 5] = np.nan
    add_volumes(recordings, y, "sub-02", "story1", run=1, onset_s=3.0)
    done = prepare(recordings, out, PLAIN)
    assert done.dropped == {"sub-01": 0, "sub-02": 2}
    targets = open_shards(out).targets("sub-02")
    assert list(targets["target"]) == list(range(22))
    kept = [tuple(row) for row in targets[["i", "j", "k"]].to_numpy()]
    assert (1, 2, 0) not in kept
    assert (2, 3, 1) not in kept
    np.testing.assert_allclose(targets[["x_mm", "y_mm", "z_mm"]], np.array(kept) * [3.0, 3.0, 4.0])
    i, j, k = kept[10]
    bold = open_shards(out).bold("sub-02", "story1")
    np.testing.assert_allclose(bold.y[:, 10], zscore(y[i, j, k]), atol=1e-4)
    assert targets["ceiling"].isna().all()
    assert open_shards(out).targets("sub-01")["ceiling"].notna().all()


def test_a_target_that_is_constant_in_one_recording_is_dropped_from_all(tmp_path: Path, out: Place) -> None:
    root = tmp_path / "recordings"
    for story in ("story1", "story2"):
        add_story(root, story)
        y = noise(2, 2, 1, 14)
        if story == "story2":
            y[0, 1, 0] = 5.0
        add_volumes(root, y, story=story)
    prepare(root, out, PLAIN)
    shards = open_shards(out)
    assert shards.bold("sub-01", "story1").y.shape == (14, 3)
    assert shards.bold("sub-01", "story2").y.shape == (14, 3)


def test_surfaces_are_left_then_right(tmp_path: Path, out: Place) -> None:
    root = tmp_path / "recordings"
    add_story(root, "story1")
    left, right = noise(14, 5, seed=1), noise(14, 4, seed=2)
    left[:, 0] = 0.0  # the medial wall
    add_surfaces(root, left, right)
    prepare(root, out, PLAIN)
    shards = open_shards(out)
    assert shards.card.space == "fsaverage5"
    targets = shards.targets("sub-01")
    assert "".join(targets["hemisphere"]) == "LLLLRRRR"
    assert list(targets["vertex"]) == [1, 2, 3, 4, 0, 1, 2, 3]
    expected = zscore(np.concatenate([left[:, 1:], right], axis=1))
    np.testing.assert_allclose(shards.bold("sub-01", "story1").y, expected, atol=1e-4)


def test_a_second_prepare_writes_nothing(recordings: Path, out: Place) -> None:
    first = prepare(recordings, out, PLAIN)
    before = writes(out)
    again = prepare(recordings, out, PLAIN)
    assert writes(out) == before
    assert (again.written, again.kept) == (0, first.written)
    assert again.card == first.card
    assert again.dropped == first.dropped


def test_a_changed_recording_is_written_again_and_no_other(recordings: Path, out: Place) -> None:
    first = prepare(recordings, out, PLAIN)
    before = writes(out)
    add_volumes(recordings, noise(3, 4, 2, 14, seed=9), "sub-02", "story1", run=1, onset_s=3.0)
    again = prepare(recordings, out, PLAIN)
    after = writes(out)
    changed = {name for name in after if after[name] != before.get(name)}
    own = {"bold/subject=sub-02/story=story1/run-1.parquet", "targets/subject=sub-02.parquet"}
    assert changed - {".wav2bold"} == own | {"dataset.json"}
    assert again.written == len(own)
    assert again.card.digest != first.card.digest


def test_other_options_write_every_recording_again(recordings: Path, out: Place) -> None:
    prepare(recordings, out, PLAIN)
    half = PLAIN.model_copy(update={"dtype": "float16", "drop_first": 2})
    again = prepare(recordings, out, half)
    assert (again.written, again.kept) == (4 + 2, 2)
    bold = open_shards(out).bold("sub-02", "story1")
    assert bold.y.dtype == np.float32
    np.testing.assert_array_equal(bold.t, np.arange(2, 14))
    expected = zscore(noise(3, 4, 2, 14, seed=4).reshape(24, 14).T[2:])
    np.testing.assert_allclose(bold.y, expected, atol=2e-3)  # float16 has 11 bits


def test_shards_of_a_recording_that_is_gone_go_too(recordings: Path, out: Place) -> None:
    prepare(recordings, out, PLAIN)
    for path in (recordings / "sub-01" / "func").glob("*story2*"):
        path.unlink()
    again = prepare(recordings, out, PLAIN)
    assert again.removed == 2  # the recording and the sound that only it had
    assert again.written == 1  # the subject's targets
    assert not (out / "bold" / "subject=sub-01" / "story=story2").exists()
    assert set(again.card.stories) == {"story1"}


def test_an_interrupted_prepare_is_told_apart_and_finished(recordings: Path, out: Place) -> None:
    whole = prepare(recordings, out, PLAIN)
    (out / "dataset.json").unlink()
    missing = out / "bold" / "subject=sub-02" / "story=story1" / "run-1.parquet"
    missing.unlink()
    (missing.parent / ".run-1.parquet.host.1.partial").write_text("half")
    with pytest.raises(DataError, match="not finished by `wav2bold prepare`; run the same command again"):
        open_shards(out)
    again = prepare(recordings, out, PLAIN)
    assert (again.written, again.kept) == (1, whole.written - 1)
    assert again.card == whole.card
    assert not list(out.rglob("*.partial"))


def test_card_knows_the_volumes_of_every_recording(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    prepare(recordings, out, PLAIN.model_copy(update={"drop_first": 2}))
    shards = open_shards(out)
    for subject, card in shards.card.subjects.items():
        for story, volumes in card.volumes.items():
            assert list(volumes) == [len(bold.t) for bold in shards.repeats(subject, story)]
    assert shards.card.subjects["sub-01"].volumes == {"story1": [12, 11], "story2": [38]}


def test_a_card_of_before_it_knew_volumes_is_renewed_and_no_recording(
    recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shards"
    whole = prepare(recordings, out, PLAIN)
    said = json.loads((out / "dataset.json").read_text())
    for card in said["subjects"].values():
        del card["volumes"]
    (out / "dataset.json").write_text(json.dumps(said))
    assert open_shards(out).volumes("sub-01", "story1") == (14, 13)
    again = prepare(recordings, out, PLAIN)
    assert (again.written, again.kept) == (0, whole.written)
    assert open_shards(out).card == whole.card


def test_plain_pyarrow_reads_the_columns(recordings: Path, out: Place) -> None:
    prepare(recordings, out, PLAIN)
    # At a URL with pyarrow's own client: nothing of ours, nor of fsspec
    table = pads.dataset(str(out / "bold").replace(" ", "%20"), partitioning="hive").to_table()
    assert set(table.column_names) == {"t", "time_s", "y", "subject", "story"}
    assert table.num_rows == 14 + 13 + 40 + 14
    sound = pads.dataset(str(out / "stimuli").replace(" ", "%20"), partitioning="hive").to_table()
    lengths = sound.to_pandas().assign(samples=lambda frame: frame["samples"].map(len))
    assert list(lengths[lengths["story"] == "story2"].sort_values("chunk")["samples"]) == [
        480_000,
        480_000,
        80_000,
    ]


def test_progress_counts_up_to_the_whole(recordings: Path, out: Place) -> None:
    seen: list[tuple[str, int, int]] = []
    prepare(recordings, out, PLAIN, lambda what, done, of: seen.append((what, done, of)))
    assert [step for step in seen if step[0] == "reading"] == [("reading", n, 6) for n in range(1, 7)]
    assert [step for step in seen if step[0] == "writing"] == [("writing", n, 8) for n in range(1, 9)]


def refused(recordings: Path, out: Place, cleaning: Cleaning = PLAIN) -> DataError:
    """The error of a prepare that must leave `out` as it was."""

    def there() -> dict[str, str] | None:
        return None if isinstance(out, Path) and not out.exists() else writes(out)

    before = there()
    with pytest.raises(DataError) as caught:
        prepare(recordings, out, cleaning)
    assert there() == before
    return caught.value


def test_a_sound_that_is_none_is_named(recordings: Path, out: Place) -> None:
    (recordings / "stimuli" / "story2.wav").write_text("no sound")
    error = refused(recordings, out)
    assert error.what.startswith(f"{recordings / 'stimuli' / 'story2.wav'}: not audio")
    assert "\n" not in str(error)


def test_a_truncated_volume_file_is_named(recordings: Path, out: Place) -> None:
    path = next((recordings / "sub-02" / "func").glob("*.nii.gz"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error = refused(recordings, out)
    assert error.what.startswith(f"{path}: can't be read (")
    assert "damaged or cut short" in error.cure


def test_bold_that_ends_before_its_story_begins_is_named(recordings: Path, out: Place) -> None:
    add_events(recordings, "sub-02_task-story1_run-1", "story1", 33.0)
    error = refused(recordings, out)
    assert "BOLD ends at 28 s, story1 begins at 33 s" in error.what
    assert "check onset in" in error.cure


def test_a_recording_that_no_machines_memory_can_hold_is_named(recordings: Path, tmp_path: Path) -> None:
    path = next((recordings / "sub-02" / "func").glob("*.nii.gz"))
    header = nib.load(path).header
    header.set_data_shape((2000, 2000, 2000, 1000))
    with gzip.open(path, "wb") as file:
        header.write_to(file)
    error = refused(recordings, tmp_path / "shards")
    assert error.what.startswith(
        "sub-02/story1: takes about 9.6e+04 GB of memory, the largest machine offers Ray"
    )
    assert error.cure == "work on a machine with more, or cut the recording down first"


def test_tasks_ask_for_no_more_memory_than_there_is(recordings: Path) -> None:
    largest = max(node["Resources"]["memory"] for node in ray.nodes())
    assert memory_of([10, 1_000]) == 1_000 + WORKER_BYTES
    assert memory_of([10, int(largest) - 1]) == int(largest)


def test_a_tr_unlike_the_others_is_named(recordings: Path, out: Place) -> None:
    add_volumes(recordings, noise(3, 4, 2, 14), "sub-02", "story1", run=1, onset_s=3.0, tr_s=1.5)
    error = refused(recordings, out)
    assert "TR is 2 s in sub-01/story1 and 1.5 s in sub-02/story1" in error.what


def test_repeats_on_different_clocks_are_named(recordings: Path, out: Place) -> None:
    add_events(recordings, "sub-01_task-story1_run-2", "story1", 3.5)
    error = refused(recordings, out)
    assert error.what.startswith("sub-01/story1/2: onset is 3.5 s, in the first recording 3 s")


def test_repeats_a_whole_number_of_volumes_apart_share_a_clock(recordings: Path, out: Place) -> None:
    add_events(recordings, "sub-01_task-story1_run-2", "story1", 5.0)
    prepare(recordings, out, PLAIN)
    shards = open_shards(out)
    one, two = shards.repeats("sub-01", "story1")
    mean = shards.bold("sub-01", "story1")
    np.testing.assert_array_equal(mean.time_s, 2.0 * np.arange(12) - 3.0)
    np.testing.assert_allclose(mean.y, (one.y[:12] + two.y[1:13]) / 2, atol=1e-6)


def test_grids_that_differ_within_a_subject_are_named(recordings: Path, out: Place) -> None:
    path = add_volumes(recordings, noise(3, 4, 3, 40), "sub-01", "story2", onset_s=0.7)
    error = refused(recordings, out)
    assert error.what.startswith(f"{path}: 3 x 4 x 3 voxels")
    assert "3 x 4 x 2 voxels" in error.what


def test_a_folder_of_somebody_else_is_left_alone(recordings: Path, out: Place) -> None:
    if isinstance(out, Path):
        out.mkdir()
    (out / "chapter1.txt").write_text("it was a dark and stormy night")
    error = refused(recordings, out)
    assert str(error) == f"{out}: is not empty and was not written by wav2bold; choose another --out"


def test_nothing_varying_is_named(recordings: Path, out: Place) -> None:
    path = add_volumes(recordings, np.ones((3, 4, 2, 14), np.float32), "sub-02", onset_s=3.0)
    assert str(refused(recordings, out)).startswith(f"{path}: no target varies")


def test_cleaning_that_leaves_nothing_is_named(recordings: Path, out: Place) -> None:
    error = refused(recordings, out, Cleaning(high_pass_s=4.1))
    assert "volumes, from which cleaning takes" in str(error)


def test_the_mask_selects_and_is_an_input(recordings: Path, tmp_path: Path, out: Place) -> None:
    mask = np.zeros((3, 4, 2), np.uint8)
    mask[0, 1, 1] = mask[2, 0, 0] = 1
    path = tmp_path / "mask.nii.gz"
    affine = nib.load(next(recordings.rglob("*.nii.gz"))).affine
    nib.save(nib.Nifti1Image(mask, affine), path)
    cleaning = PLAIN.model_copy(update={"mask": path})
    prepare(recordings, out, cleaning)
    shards = open_shards(out)
    assert shards.bold("sub-02", "story1").y.shape == (14, 2)
    places = pd.DataFrame({"i": [0, 2], "j": [1, 0], "k": [1, 0]}, dtype=np.int32)
    pd.testing.assert_frame_equal(shards.targets("sub-02")[["i", "j", "k"]], places)
    mask[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(mask, affine), path)
    again: Prepared = prepare(recordings, out, cleaning)
    assert again.written == 4 + 2
    nib.save(nib.Nifti1Image(mask[:2], affine), path)
    assert "mask.nii.gz: 2 x 4 x 2 voxels" in str(refused(recordings, out, cleaning))
