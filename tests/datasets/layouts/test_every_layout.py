"""What every layout must do, on a folder of the exact file names that it reads."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from published import COLLECTIONS, Published
from typer.testing import CliRunner

from wav2bold import cli, steps
from wav2bold.config import Cleaning
from wav2bold.datasets.bold import candidates, read_bold
from wav2bold.datasets.layouts.known import find
from wav2bold.datasets.prepare import prepare
from wav2bold.datasets.shards import open_shards, read_run, run_path
from wav2bold.errors import DataError, UserError

PLAIN = Cleaning(high_pass_s=None, detrend=False)


@pytest.fixture(params=COLLECTIONS)
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Published:
    return COLLECTIONS[request.param](tmp_path / "source folder")


def test_it_is_recognised_by_its_own_marks(published: Published) -> None:
    found = find(published.source)
    assert found.layout == published.layout
    assert find(published.source, layout=published.layout).runs == found.runs


def test_every_recording_is_one_run_with_its_own_sound(published: Published) -> None:
    runs = find(published.source).runs
    assert [run.name for run in runs] == [truth.name for truth in published.truths]
    assert [run.audio.stem for run in runs] == [truth.sound for truth in published.truths]
    assert {run.space for run in runs} == {published.space}


def test_a_run_is_read_as_it_was_recorded(published: Published) -> None:
    for run, truth in zip(find(published.source).runs, published.truths, strict=True):
        y = read_bold(run)
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, truth.y)
        assert len(candidates(run)) == truth.y.shape[1]


def test_looking_for_recordings_tells_how_far_it_is(published: Published) -> None:
    told: list[tuple[str, int, int]] = []
    find(published.source, progress=lambda *now: told.append(now))
    assert {what for what, _, _ in told} == {"finding recordings"}
    (total,) = {total for _, _, total in told}
    assert total > 0
    assert [done for _, done, _ in told] == list(range(total + 1))


def test_without_a_sound_those_who_heard_it_are_refused_and_the_others_found(published: Published) -> None:
    before = find(published.source).runs
    before[0].audio.unlink()
    told: list[tuple[str, UserError]] = []
    found = find(published.source, refuse=lambda name, error: told.append((name, error))).runs
    heard = {run.bold for run in before if run.audio == before[0].audio}
    assert [run.bold for run in found] == [run.bold for run in before if run.bold not in heard]
    assert len(told) >= len(heard)
    assert all(before[0].audio.name in str(error) and "; " in str(error) for _, error in told)
    with pytest.raises(DataError, match=before[0].audio.name):
        find(published.source)


def test_another_space_is_refused_naming_those_there_are(published: Published) -> None:
    result = CliRunner().invoke(cli.app, ["manifest", str(published.source), "--space", "nowhere"])
    there = published.space
    if published.layout == "narratives":
        there = f"MNI152NLin2009cAsym_res-native, {there}"
    assert f"no recordings found in space nowhere (there are {there})" in str(result.exception)
    assert str(result.exception).endswith("; choose one of them with --space")


def test_a_manifest_of_it_reads_back_as_the_same_runs(published: Published, tmp_path: Path) -> None:
    before = find(published.source)
    text, told = steps.manifest(published.source)
    assert told == before
    copy = tmp_path / "elsewhere" / "runs.tsv"
    copy.parent.mkdir()
    copy.write_text(text, encoding="utf-8")
    again = find(copy)
    assert again.layout == "manifest"
    assert again.runs == before.runs
    assert again.left_out == ()


def test_only_the_manifest_goes_to_standard_output(published: Published) -> None:
    result = CliRunner().invoke(cli.app, ["manifest", str(published.source)])
    assert result.exit_code == 0
    rows = list(csv.reader(io.StringIO(result.stdout), delimiter="\t"))
    assert rows[0] == [
        "subject",
        "story",
        "bold",
        "audio",
        "tr",
        "onset_s",
        "confounds",
        "space",
        "duration_s",
    ]
    assert len(rows) == 1 + len(published.truths)
    people = len({truth.name.split("/")[0] for truth in published.truths})
    assert f"{published.layout}: {people} subjects, " in result.stderr
    assert f"{len(published.truths)} recordings" in result.stderr


@pytest.mark.usefixtures("small_ray")
def test_its_shards_hold_every_volume_at_its_own_time(published: Published, tmp_path: Path) -> None:
    done = prepare(published.source, tmp_path / "shards", PLAIN)
    assert done.layout == published.layout
    shards = open_shards(tmp_path / "shards")
    assert shards.card.space == published.space
    for truth in published.truths:
        subject, story, *repeat = truth.name.split("/")
        bold = read_run(run_path(shards.root, subject, story, int(repeat[0]) if repeat else 1))
        for t, time_s in zip(bold.t, bold.time_s, strict=True):
            scan_s = truth.first_s + int(t) * truth.tr_s
            assert abs(time_s - float(scan_s - truth.sound_s)) < 1e-12
        y = truth.y.astype(np.float64)
        np.testing.assert_allclose(bold.y, (y - y.mean(axis=0)) / y.std(axis=0, ddof=1), atol=1e-4)
        assert len(shards.targets(subject)) == y.shape[1]
    assert all(Path(name).is_absolute() is False for name in shards.card.inputs)


@pytest.mark.usefixtures("small_ray")
def test_a_manifest_of_it_writes_the_same_shards(published: Published, tmp_path: Path) -> None:
    first = prepare(published.source, tmp_path / "shards", PLAIN)
    copy = published.source.parent / "copy of it.tsv"
    copy.write_text(steps.manifest(published.source)[0], encoding="utf-8")
    again = prepare(copy, tmp_path / "shards", PLAIN)
    assert (again.written, again.removed) == (0, 0)
    assert again.card.digest == first.card.digest
