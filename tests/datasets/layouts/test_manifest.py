"""A manifest is read as it was meant, or all that is wrong with it is told at once."""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from published import add_matrices, save_series
from recordings import add_story, add_surfaces, noise, save_volumes

from wav2bold.datasets.bold import read_bold
from wav2bold.datasets.layouts.manifest import as_manifest, find_runs
from wav2bold.errors import DataError

COLUMNS = ("subject", "story", "bold", "audio", "tr", "onset_s", "confounds")
Y = noise(2, 2, 2, 10)
GOOD = {
    "subject": "sub-1",
    "story": "ferry",
    "bold": "scan.nii.gz",
    "audio": "stimuli/ferry.wav",
    "tr": "2",
    "onset_s": "1.5",
    "confounds": "n/a",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scan whose header says 2 s, another that says none, and a sound."""
    add_story(tmp_path, "ferry")
    save_volumes(tmp_path / "scan.nii.gz", Y, 2.0)
    save_volumes(tmp_path / "silent.nii.gz", Y, 0.0)
    return tmp_path


def write(folder: Path, *rows: Mapping[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    lines = ["\t".join(columns), *("\t".join(row.get(name, "") for name in columns) for row in rows)]
    path = folder / "runs.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_runs(path)
    return str(caught.value)


def test_a_line_is_a_run(folder: Path) -> None:
    (run,) = find_runs(write(folder, GOOD))
    assert (run.subject, run.story, run.repeat, run.tr_s, run.onset_s) == ("sub-1", "ferry", 1, 2.0, 1.5)
    assert (run.bold, run.audio) == ((folder / "scan.nii.gz",), folder / "stimuli" / "ferry.wav")
    assert (run.confounds, run.space, run.member) == (None, "native", None)
    np.testing.assert_array_equal(read_bold(run), Y.reshape(8, 10).T)


@pytest.mark.parametrize("unknown", ["", "n/a", "N/A", "NaN", " "])
def test_what_is_unknown_is_taken_from_the_file(folder: Path, unknown: str) -> None:
    (run,) = find_runs(write(folder, {**GOOD, "tr": unknown, "confounds": unknown}))
    assert (run.tr_s, run.confounds) == (2.0, None)


def test_lines_of_one_story_are_repeats_in_their_order(folder: Path) -> None:
    save_volumes(folder / "again.nii.gz", Y, 2.0)
    rows = [GOOD, {**GOOD, "subject": "sub-2"}, {**GOOD, "bold": "again.nii.gz"}]
    names = [run.name for run in find_runs(write(folder, *rows))]
    assert names == ["sub-1/ferry", "sub-2/ferry", "sub-1/ferry/2"]


def test_quotes_that_spreadsheets_add_are_taken_off(folder: Path) -> None:
    left, right = add_surfaces(folder, noise(5, 3), noise(5, 3))
    pair = f'"{left.relative_to(folder)}, {right.relative_to(folder)}"'
    (run,) = find_runs(write(folder, {**GOOD, "bold": pair, "story": '"the ""ferry"""'}))
    assert run.bold == (left, right)
    assert run.story == 'the "ferry"'
    assert run.space == "fsaverage5"


@pytest.mark.parametrize(
    "name", ["a,b.func.gii", "a, b, c.func.gii", "a;b|c.func.gii", "a b\N{SNOWMAN}.func.gii"]
)
def test_pairs_survive_any_name(folder: Path, name: str) -> None:
    files = add_surfaces(folder, noise(5, 3), noise(5, 4))
    pair = [path.rename(folder / (side + name)) for side, path in zip("LR", files, strict=True)]
    before = find_runs(write(folder, {**GOOD, "bold": f"L{name},R{name}"}))
    assert before[0].bold == tuple(pair)
    (folder / "again.tsv").write_text(as_manifest(before), encoding="utf-8")
    assert find_runs(folder / "again.tsv") == before


@pytest.mark.parametrize("value", ["-10.045", "0", "1e-3", "0.1", "123456.789012345"])
def test_numbers_come_back_to_the_last_digit(folder: Path, value: str) -> None:
    before = find_runs(write(folder, {**GOOD, "onset_s": value}))
    assert before[0].onset_s == float(value)
    (folder / "again.tsv").write_text(as_manifest(before), encoding="utf-8")
    assert find_runs(folder / "again.tsv") == before


def test_paths_are_relative_to_the_manifest_and_not_to_the_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, GOOD)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert find_runs(Path("..", path.name))[0].bold[0].samefile(folder / "scan.nii.gz")
    text = as_manifest(find_runs(Path("..", path.name)))
    (folder / "elsewhere" / "deeper").mkdir()
    monkeypatch.chdir(folder / "elsewhere" / "deeper")
    Path("again.tsv").write_text(text)
    assert find_runs(Path("again.tsv"))[0].bold[0].samefile(folder / "scan.nii.gz")


def test_one_space_of_several_is_picked_and_the_rest_told(folder: Path) -> None:
    rows = [{**GOOD, "space": "A"}, {**GOOD, "subject": "sub-2", "space": "B"}]
    path = write(folder, *rows, columns=(*COLUMNS, "space"))
    assert refusal(path) == f"{path}: recordings in 2 spaces (A, B); pick one, as with --space A"
    told: list[str] = []
    assert [run.subject for run in find_runs(path, "B", told.append)] == ["sub-2"]
    assert told == ["1 of 2 recordings left out: they are not in space B"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": ""}, "no subject; write it"),
        ({"audio": "n/a"}, "no audio; write it"),
        ({"onset_s": ""}, "no onset_s; write it"),
        ({"onset_s": "1,5"}, "onset_s 1,5 is no number; write seconds, such as 1.5"),
        ({"onset_s": "inf"}, "onset_s inf is no number"),
        ({"tr": "two"}, "tr two is no number; write seconds"),
        ({"tr": "-2"}, "tr is -2 s; write the seconds between volumes"),
        ({"tr": "0"}, "tr is 0 s; write the seconds"),
        ({"tr": "1.5"}, "scan.nii.gz: its header says a TR of 2 s, tr is 1.5 s; set the wrong one of the"),
        ({"tr": "", "bold": "silent.nii.gz"}, "no tr, and silent.nii.gz doesn't say it; write the seconds"),
        ({"audio": "ferry.wav"}, "ferry.wav is no file; mend the path, or fetch the file"),
        ({"bold": "gone.nii.gz"}, "gone.nii.gz is no file; mend the path"),
        ({"confounds": "gone.tsv"}, "gone.tsv is no file; mend the path"),
        ({"bold": "scan.nii.gz,silent.nii.gz"}, "surfaces come in pairs of GIFTI; write LEFT.gii,RIGHT.gii"),
        ({"bold": "LEFT"}, "surfaces come in pairs of GIFTI; write LEFT.gii,RIGHT.gii"),
        ({"bold": "scan.nii.gz::data"}, "only HDF5 files hold several matrices; drop ::data"),
        ({"bold": "MATRIX::resp"}, "holds no resp, but data; name one that it holds"),
        ({"bold": "stimuli/ferry.wav"}, "ferry.wav: can't be read"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(folder: Path, change: dict[str, str], message: str) -> None:
    left, _ = add_surfaces(folder, noise(5, 3), noise(5, 3), subject="sub-9")
    matrix = add_matrices(folder, "S1", "x", data=noise(5, 3).astype(np.float64))
    change = {
        name: value.replace("LEFT", str(left)).replace("MATRIX", str(matrix))
        for name, value in change.items()
    }
    path = write(folder, {**GOOD, "subject": "sub-2"}, {**GOOD, **change})
    said = refusal(path)
    assert said.startswith(f"{path}: line 3: ")
    assert message in said
    assert "\n" not in said


def test_maps_are_refused_as_no_time_series(folder: Path) -> None:
    save_series(folder / "x.dtseries.nii", noise(4, 9), 1.0)
    header = nib.load(folder / "x.dtseries.nii").header
    axes = (nib.cifti2.ScalarAxis(["MyelinMap"]), header.get_axis(1))
    maps = nib.Cifti2Image(noise(1, 9), nib.cifti2.Cifti2Header.from_axes(axes))
    nib.save(maps, folder / "x.dscalar.nii")
    said = refusal(write(folder, {**GOOD, "bold": "x.dscalar.nii"}))
    assert "x.dscalar.nii: 1 map (MyelinMap), no time series; give the *.dtseries.nii file" in said


def test_all_mistakes_are_told_together(folder: Path) -> None:
    bad = {**GOOD, "tr": "two", "audio": "gone.wav"}
    path = write(folder, GOOD, bad, GOOD, {**GOOD, "onset_s": ""})
    first, *lines = refusal(path).split("\n  ")
    assert first == f"{path}: 4 mistakes:"
    assert [line.partition(": ")[0] for line in lines] == ["line 3", "line 3", "line 4", "line 5"]
    assert lines[2] == "line 4: is the recording of line 2; delete one of the two"


def test_of_very_many_mistakes_some_are_shown_and_all_counted(folder: Path) -> None:
    said = refusal(write(folder, *[{**GOOD, "tr": "two"}] * 50))
    assert "50 mistakes:" in said
    assert said.count("\n") == 21
    assert said.endswith("\n  and 30 more")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "6 mistakes:\n  has no column subject\n"),
        ("subject,story,bold\n", "one column, subject,story,bold; separate columns by tabs"),
        ("subject\tstory\tbold\tadio\ttr\tonset_s\n", "has no column audio; is adio meant?"),
        ("subject\tstory\tbold\taudio\ttr\tonset_s\tconfound\n", "column confound: unknown; is confounds"),
        ("subject\tsubject\tstory\tbold\taudio\ttr\tonset_s\n", "column subject: is there twice"),
        ("subject\tstory\tbold\taudio\ttr\tonset_s\n", "names no recording; write a line for each"),
        ("subject\tstory\tbold\taudio\ttr\tonset_s\na\tb\tc\td\t1\t2\t3\n", "line 2: 7 values for 6 columns"),
    ],
)  # fmt: skip
def test_a_heading_that_does_not_fit_is_told(folder: Path, text: str, message: str) -> None:
    path = folder / "runs.tsv"
    path.write_text(text)
    assert message in refusal(path)
    assert refusal(path).startswith(f"{path}: ")


def test_what_is_no_text_or_not_there_is_told(folder: Path) -> None:
    path = folder / "runs.tsv"
    assert refusal(path) == f"{path}: no such file; give a manifest, or a folder of recordings"
    path.write_bytes(b"\xff\xfe\x00s")
    assert "is not UTF-8 text" in refusal(path)
    assert refusal(path).endswith("save it as UTF-8")
    path.unlink()
    path.mkdir()
    assert refusal(path) == f"{path}: can't be read (Is a directory); give a manifest (.tsv)"
