"""ds003020: every row at its own time in the sound, and every repeat a recording."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from listeners import in_memory
from published import add_matrices, lebel
from recordings import add_story, noise

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.bold import read_bold
from wav2bold.datasets.layouts.known import find
from wav2bold.datasets.layouts.lebel import ONSET_S, TR_S, find_runs
from wav2bold.datasets.prepare import prepare
from wav2bold.datasets.recording import story_times_s
from wav2bold.datasets.shards import Bold, open_shards
from wav2bold.datasets.windows import window_stop, windows
from wav2bold.errors import DataError

RATE_HZ = 16_000
HOUR = round(3600 / TR_S)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return lebel(tmp_path / "ds003020").source


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_runs(root)
    assert caught.value.cure
    return str(caught.value)


def test_row_217_lies_217_whole_trs_after_row_0() -> None:
    time_s = story_times_s(np.array([0, 217], np.int32), TR_S, ONSET_S)
    assert abs(time_s[0] - 10.045) < 1e-9
    assert abs(time_s[1] - (10.045 + 217 * 2.0045)) < 1e-9


@pytest.mark.parametrize("rows", [round(435 / TR_S), HOUR])
def test_no_row_drifts_from_the_scanner(rows: int) -> None:
    """Steps of 2 s in place of 2.0045 would be a volume late after 445 rows, 0.98 s after 435 s."""
    time_s = story_times_s(np.arange(rows, dtype=np.int32), TR_S, ONSET_S)
    for t in range(rows):
        scan_s = (10 + t) * Fraction("2.0045")
        assert abs(Fraction(time_s[t]) - (scan_s - 10)) < Fraction(1, 10**9)
    stops = np.array([window_stop(float(moment)) for moment in time_s])
    np.testing.assert_array_equal(stops, 160_720 + 32_072 * np.arange(rows))


@pytest.mark.parametrize(("history", "kept_from"), [(5, 0), (6, 1), (8, 3)])
def test_the_first_rows_have_a_history_as_the_sound_began_before(history: int, kept_from: int) -> None:
    """10.045 s were heard before row 0: five TRs, 10.0225 s, fit, and six don't."""
    t = np.arange(HOUR, dtype=np.int32)
    bold = Bold(t, story_times_s(t, TR_S, ONSET_S), t[:, None].astype(np.float32))
    shards = in_memory({"souls": 3600.0}, {("UTS01", "souls"): bold}, TR_S)
    found = windows(shards, ["UTS01"], ["souls"], history)
    last = int((3600 - 10.045) / 2.0045)
    assert found.y[:, 0].tolist() == list(range(kept_from, last + 1))
    np.testing.assert_array_equal(found.stop, 160_720 + 32_072 * found.y[:, 0].astype(int))


def test_repeats_stand_in_place_of_their_mean(root: Path) -> None:
    runs = [run for run in find_runs(root) if run.subject == "UTS01" and run.story == "wheretheressmoke"]
    expected = [(number + 1, f"individual_repeats[{number}]") for number in range(3)]
    assert [(run.repeat, run.member) for run in runs] == expected
    assert {run.bold for run in runs} == {runs[0].bold}
    for index, run in enumerate(runs):
        np.testing.assert_array_equal(read_bold(run), noise(3, 30, 7, seed=2)[index])


def test_repeats_of_one_are_the_recording_itself(tmp_path: Path) -> None:
    add_story(tmp_path, "souls", 60.0)
    y = noise(30, 4).astype(np.float64)
    add_matrices(tmp_path, "UTS01", "souls", data=y, individual_repeats=y[None])
    assert [run.member for run in find_runs(tmp_path)] == ["data"]


@pytest.mark.usefixtures("small_ray")
def test_repeats_give_a_ceiling_and_gaps_are_dropped_and_counted(root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heard = rng.standard_normal((30, 7)).astype(np.float32)
    repeats = heard + 0.3 * rng.standard_normal((3, 30, 7))
    repeats[1, 4, 5] = np.nan
    repeats[:, :, 6] = 0.0
    add_matrices(root, "UTS01", "wheretheressmoke", data=repeats.mean(axis=0), individual_repeats=repeats)
    cleaning, told = Cleaning(high_pass_s=None, detrend=False), Targets(ceiling_from_test=True)
    done = prepare(root, tmp_path / "shards", cleaning, targets=told)
    assert done.dropped == {"UTS01": 2, "UTS02": 0}
    assert done.doubts == ()
    shards = open_shards(tmp_path / "shards")
    assert shards.card.subjects["UTS01"].stories == {"adollshouse": 1, "souls": 1, "wheretheressmoke": 3}
    targets = shards.targets("UTS01")
    assert list(targets["column"]) == [0, 1, 2, 3, 4]
    assert (targets["ceiling"] > 0.85).all()  # sqrt(1 / 1.09) = 0.96 in the long run
    assert shards.targets("UTS02")["ceiling"].isna().all()
    (hint,) = prepare(root, tmp_path / "shards", cleaning).doubts  # unasked, a test story tells nothing
    assert "only wheretheressmoke, which tests, was heard more than once" in hint
    assert open_shards(tmp_path / "shards").targets("UTS01")["ceiling"].isna().all()


def test_what_was_not_fetched_is_left_out_and_told(root: Path) -> None:
    before = find_runs(root)
    link = root / "derivative" / "preprocessed_data" / "UTS03" / "souls.hf5"
    link.parent.mkdir()
    link.symlink_to("../../../.git/annex/objects/nowhere")
    found = find(root)
    assert list(found.runs) == before
    assert found.left_out == ("1 recording left out, not fetched yet (`datalad get`): UTS03/souls",)


def test_copies_that_spell_the_folder_as_bids_does_are_read_too(root: Path) -> None:
    (root / "derivative").rename(root / "derivatives")
    assert find(root).layout == "lebel"
    assert len(find_runs(root)) == 8


def test_mistakes_are_named(root: Path, tmp_path: Path) -> None:
    sound = root / "stimuli" / "souls.wav"
    sound.unlink()
    assert refusal(root).startswith(f"{sound}: no such file, UTS01 heard it; fetch it")
    path = add_matrices(root, "UTS01", "adollshouse", resp=noise(5, 3).astype(np.float64))
    assert refusal(root) == f"{path}: holds no data, but resp; fetch it again, or leave it out"
    path.write_bytes(b"no HDF5")
    assert refusal(root).startswith(f"{path}: can't be read (")
    folder = tmp_path / "empty" / "derivative" / "preprocessed_data"
    folder.mkdir(parents=True)
    message = f"{tmp_path / 'empty'}: no recordings found; looked for derivative/preprocessed_data/*/*.hf5"
    assert refusal(tmp_path / "empty") == message
    (folder / "UTS01").mkdir()
    (folder / "UTS01" / "souls.hf5").symlink_to("nowhere")
    assert refusal(tmp_path / "empty").startswith(f"{folder}: nothing there was fetched; fetch some")
