"""CIFTI is read as what its header says it is, and refused where it holds no time."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from published import add_series, brain_model, save_series
from recordings import AFFINE, add_story, add_volumes, noise

from wav2bold.datasets.bold import candidates, grid, header_tr_s, read_bold
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.memory import cleaning_bytes, reading_bytes
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError

Y = noise(6, 9)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    add_story(tmp_path, "story1")
    add_series(tmp_path, Y, "sub-01", "story1", 0.0, 0.72)
    (found,) = find_runs(tmp_path)
    return found


def save(path: Path, rows: nib.cifti2.cifti2_axes.Axis, columns: nib.cifti2.cifti2_axes.Axis) -> None:
    values = np.zeros((len(rows), len(columns)), np.float32)
    nib.save(nib.Cifti2Image(values, nib.cifti2.Cifti2Header.from_axes((rows, columns))), path)


def test_grayordinates_say_which_vertex_or_voxel_they_are(run: Run) -> None:
    where = candidates(run)
    assert list(where["structure"]) == ["CORTEX_LEFT"] * 4 + ["CORTEX_RIGHT"] * 3 + ["THALAMUS_LEFT"] * 2
    assert list(where["vertex"][:7]) == [6, 7, 8, 9, 7, 8, 9]
    assert where["vertex"][7:].isna().all()
    assert where[["i", "j", "k"]][7:].to_numpy().tolist() == [[1, 2, 0], [2, 0, 1]]
    assert where[["i", "j", "k", "x_mm", "y_mm", "z_mm"]][:7].isna().all(axis=None)
    sizes = np.diag(AFFINE)[:3]
    np.testing.assert_array_equal(where[["x_mm", "y_mm", "z_mm"]][7:], [[1, 2, 0] * sizes, [2, 0, 1] * sizes])


@pytest.mark.parametrize("tr_s", [0.72, 1.5, 2.0045])
def test_a_header_alone_gives_the_tr(run: Run, tr_s: float) -> None:
    save_series(run.bold[0], Y, tr_s)
    assert header_tr_s(run.bold[0]) == tr_s


def test_milliseconds_are_understood(run: Run) -> None:
    """Workbench writes the step with an exponent of ten."""
    image = nib.load(run.bold[0])
    along = image.header.matrix.get_index_map(0)
    along.series_step, along.series_exponent = 720.0, -3
    nib.save(nib.Cifti2Image(Y, image.header), run.bold[0])
    assert header_tr_s(run.bold[0]) == 0.72


def test_a_sidecar_that_disagrees_is_named(run: Run, tmp_path: Path) -> None:
    save_series(run.bold[0], Y, 0.8)
    with pytest.raises(DataError, match=r"RepetitionTime is 0\.72 s, the header of .*dtseries\.nii 0\.8 s"):
        find_runs(tmp_path)


def test_both_ways_of_writing_a_recording_need_a_choice(run: Run, tmp_path: Path) -> None:
    volumes = add_volumes(tmp_path, noise(2, 2, 2, 6), tr_s=0.72)
    volumes = volumes.rename(volumes.with_name(volumes.name.replace("_run-1", "")))
    for path in volumes.parent.glob("*_run-1_*"):
        path.unlink()
    volumes.with_name(volumes.name.replace(".nii.gz", ".json")).write_text('{"RepetitionTime": 0.72}')
    with pytest.raises(DataError) as caught:
        find_runs(tmp_path)
    assert "in 2 spaces (MNI152NLin2009cAsym, fsLR_den-91k); pick one, as with --space MNI" in str(
        caught.value
    )
    assert find_runs(tmp_path, "fsLR_den-91k") == [run]
    assert find_runs(tmp_path, "MNI152NLin2009cAsym")[0].bold == (volumes,)


def test_maps_are_no_time_series(run: Run) -> None:
    save(run.bold[0], nib.cifti2.ScalarAxis(["MyelinMap", "Thickness"]), brain_model())
    with pytest.raises(DataError) as caught:
        read_bold(run)
    assert str(caught.value) == (
        f"{run.bold[0]}: 2 maps (MyelinMap, Thickness), no time series; give the *.dtseries.nii file"
    )


def test_other_series_and_parcels_are_refused(run: Run) -> None:
    save_series(run.bold[0], Y, 2.0, unit="HERTZ")
    with pytest.raises(DataError, match="a series in hertzs is no time series"):
        header_tr_s(run.bold[0])
    save_series(run.bold[0], Y[:1], 2.0)
    with pytest.raises(DataError, match="a single volume, no time series"):
        read_bold(run)
    parcels = nib.cifti2.ParcelsAxis.from_brain_models([("A1", brain_model()[:4])])
    save(run.bold[0], nib.cifti2.SeriesAxis(0, 2, 5), parcels)
    with pytest.raises(DataError, match="holds 1 parcels or connections, not grayordinates"):
        read_bold(run)


def test_a_mask_cannot_select_grayordinates(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't select grayordinates of .*; leave cleaning\.mask out"):
        read_bold(run, tmp_path / "mask.nii.gz")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused(run: Run, part: float) -> None:
    whole = run.bold[0].read_bytes()
    run.bold[0].write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(DataError, match="can't be read"):
        read_bold(run)


def test_grids_are_told_apart_also_at_equal_size(run: Run) -> None:
    before = grid(run, 9)
    assert before.startswith("9 grayordinates, 7 of them vertices (model ")
    axes = (nib.cifti2.SeriesAxis(0, 0.72, len(Y)), brain_model(left=3, right=4))
    nib.save(nib.Cifti2Image(Y, nib.cifti2.Cifti2Header.from_axes(axes)), run.bold[0])
    assert grid(run, 9) != before


def test_memory_is_that_of_volumes_by_grayordinates(run: Run) -> None:
    assert reading_bytes(run) == cleaning_bytes(volumes=6, candidates=9)
