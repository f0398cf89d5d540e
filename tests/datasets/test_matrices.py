"""Matrices in HDF5 files are read by name, and whatever is no matrix is told."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from wav2bold.datasets.bold import candidates, grid, header_tr_s, read_bold
from wav2bold.datasets.matrices import columns, read_matrix, shapes
from wav2bold.datasets.memory import cleaning_bytes, reading_bytes
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError

Y = np.random.default_rng(0).standard_normal((12, 5))
REPEATS = np.random.default_rng(1).standard_normal((3, 12, 5))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "story.hf5"
    with h5py.File(path, "w") as file:
        file["data"] = Y
        file["individual_repeats"] = REPEATS
        file["more/counts"] = np.arange(6, dtype=np.int16).reshape(3, 2)
        file["names"] = np.array([[b"a", b"b"], [b"c", b"d"]])
        file["line"] = Y[0]
        file["row"] = Y[:1]
        file["alone"] = 3.0
    return path


def run_of(path: Path, member: str | None) -> Run:
    return Run(
        "UTS01", "story", 1, (path,), path.with_name("story.wav"), 2.0045, -10.045, None, "native", member
    )


def test_members_are_read_by_name(path: Path) -> None:
    assert shapes(path)["individual_repeats"] == (3, 12, 5)
    np.testing.assert_array_equal(read_matrix(path, "data"), Y.astype(np.float32))
    np.testing.assert_array_equal(read_matrix(path, "individual_repeats[2]"), REPEATS[2].astype(np.float32))
    np.testing.assert_array_equal(read_matrix(path, "/more/counts"), [[0, 1], [2, 3], [4, 5]])
    assert columns(path, "more/counts") == 2
    assert read_matrix(path, "data").dtype == np.float32


def test_the_only_matrix_needs_no_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["resp"] = Y
    np.testing.assert_array_equal(read_matrix(tmp_path / "one.h5", None), Y.astype(np.float32))


def test_targets_have_their_column_and_no_place(path: Path) -> None:
    run = run_of(path, "data")
    np.testing.assert_array_equal(read_bold(run), Y.astype(np.float32))
    assert candidates(run).to_dict("list") == {"column": [0, 1, 2, 3, 4]}
    assert grid(run, 5) == "5 columns"
    assert header_tr_s(path) is None


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (None, "holds alone, data, individual_repeats, line, more/counts, names, row; name the one to read"),
        ("resp", "holds no resp, but alone, data"),
        ("individual_repeats", r"is 3 x 12 x 5, no matrix; name one part of it, .*s\[0\] to .*s\[2\]"),
        ("individual_repeats[3]", "it has no part 3; count from 0"),
        ("data[0]", "data is 12 x 5, it has no part 0"),
        ("line", "line is 5, no matrix of volumes by targets; give one with a row per volume"),
        ("row", "row is 1 x 5, no matrix of volumes"),
        ("alone", "alone is a single number, no matrix"),
        ("names", "names holds .*, no real numbers"),
    ],
)
def test_what_is_no_matrix_is_told(path: Path, member: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_bold(run_of(path, member))
    assert str(path) in caught.value.what


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.95])
def test_a_file_cut_short_is_refused(path: Path, part: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(DataError, match=r"can't be read \(.*\); the file is damaged or cut short"):
        read_matrix(path, "data")


def test_a_missing_file_and_a_mask_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.hf5: no such file; fetch it"):
        read_matrix(tmp_path / "none.hf5", "data")
    with pytest.raises(DataError, match=r"can't select columns of .*story\.hf5"):
        read_bold(run_of(path, "data"), tmp_path / "mask.nii.gz")


def test_memory_is_that_of_the_member_and_not_of_its_file(path: Path) -> None:
    for member in ("data", "individual_repeats[2]"):
        assert reading_bytes(run_of(path, member)) == cleaning_bytes(12, 5)
    assert reading_bytes(run_of(path, "more/counts")) == cleaning_bytes(3, 2)
    path.write_bytes(b"no HDF5")  # reading it will tell
    assert reading_bytes(run_of(path, "data")) == 0
