"""What is predicted is what nilearn's maskers give of the same recording."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.maskers import NiftiLabelsMasker, SurfaceLabelsMasker
from nilearn.surface import PolyMesh, SurfaceImage
from recordings import (
    AFFINE,
    add_story,
    add_surfaces,
    add_volumes,
    noise,
    save_labels,
    save_surface_labels,
)
from scipy.ndimage import center_of_mass

from wav2bold.config import Targets
from wav2bold.datasets.bold import read_bold, varying
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.regions import read_regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.targets import (
    narrowed,
    pack_tsnr,
    target_ids,
    target_table,
    to_candidates,
    to_targets,
    tsnr,
    unpack_tsnr,
)

SHAPE = (5, 6, 4)


def labels_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Labels 0, 2, 5, 7 and 30, scattered."""
    return np.random.default_rng(seed).choice([0, 2, 5, 7, 30], shape).astype(np.int16)


@pytest.fixture
def volumes(tmp_path: Path) -> Run:
    add_story(tmp_path, "story1")
    add_volumes(tmp_path, noise(*SHAPE, 20))
    return find_runs(tmp_path)[0]


@pytest.fixture
def surfaces(tmp_path: Path) -> Run:
    add_story(tmp_path, "story1")
    add_surfaces(tmp_path, noise(20, 50, seed=1), noise(20, 40, seed=2))
    return find_runs(tmp_path)[0]


def reduced(run: Run, targets: Targets, mask: Path | None = None) -> tuple[np.ndarray, pd.DataFrame]:
    """The targets of a recording, those that vary, and where they are."""
    recorded = read_bold(run, mask)
    regions = read_regions(run, mask, targets, recorded.shape[1])
    y = to_candidates(recorded, regions)
    keep = varying(y)
    return to_targets(y, keep, regions), target_table(run, mask, keep, regions)


def test_means_of_regions_are_nilearns(volumes: Run, tmp_path: Path) -> None:
    path = save_labels(tmp_path / "atlas.nii.gz", labels_of(SHAPE))
    y, table = reduced(volumes, Targets(parcellation=(path,)))
    masker = NiftiLabelsMasker(path, standardize=None, resampling_target=None)
    np.testing.assert_allclose(y, masker.fit_transform(volumes.bold[0]), rtol=1e-6)
    assert list(table["label"]) == [2, 5, 7, 30]
    assert list(table["target"]) == [0, 1, 2, 3]


def test_a_masks_regions_are_nilearns(volumes: Run, tmp_path: Path) -> None:
    path = save_labels(tmp_path / "atlas.nii.gz", labels_of(SHAPE))
    mask = save_labels(tmp_path / "mask.nii.gz", (labels_of(SHAPE, seed=4) > 2).astype(np.uint8))
    y, _ = reduced(volumes, Targets(parcellation=(path,)), mask)
    masker = NiftiLabelsMasker(path, mask_img=mask, standardize=None, resampling_target=None)
    np.testing.assert_allclose(y, masker.fit_transform(volumes.bold[0]), rtol=1e-6)


def test_a_region_says_its_size_and_centre(volumes: Run, tmp_path: Path) -> None:
    labels = labels_of(SHAPE)
    _, table = reduced(volumes, Targets(parcellation=(save_labels(tmp_path / "a.nii", labels),)))
    for row in table.itertuples():
        here = labels == row.label
        centre = nib.affines.apply_affine(AFFINE, center_of_mass(here))
        np.testing.assert_allclose([row.x_mm, row.y_mm, row.z_mm], centre, rtol=1e-5)
        assert (row.members, row.left_out) == (here.sum(), 0)


def test_voxels_that_do_not_vary_are_left_out_of_the_mean_and_counted(volumes: Run, tmp_path: Path) -> None:
    labels = labels_of(SHAPE)
    data = noise(*SHAPE, 20)
    bad = [tuple(place) for place in np.argwhere(labels == 5)[:3]]
    data[bad[0]] = 0.0
    data[bad[1]][3] = np.nan
    data[bad[2]][4] = np.inf
    data[labels == 30] = 7.0
    nib.save(nib.Nifti1Image(data, AFFINE), volumes.bold[0])
    y, table = reduced(volumes, Targets(parcellation=(save_labels(tmp_path / "a.nii", labels),)))
    assert list(table["label"]) == [2, 5, 7]  # nothing of 30 varies
    assert list(table["left_out"]) == [0, 3, 0]
    for place in bad:
        labels[place] = 0
    assert table["members"][1] == (labels == 5).sum()
    np.testing.assert_allclose(y[:, 1], data[labels == 5].mean(axis=0, dtype=np.float64), rtol=1e-6)


def test_means_of_regions_of_a_surface_are_nilearns(surfaces: Run, tmp_path: Path) -> None:
    left, right = labels_of((50,), 1), labels_of((40,), 2)
    paths = (
        save_surface_labels(tmp_path / "L.label.gii", left, {2: "two", 30: "thirty"}),
        save_surface_labels(tmp_path / "R.label.gii", right, {2: "two", 5: "five"}),
    )
    y, table = reduced(surfaces, Targets(parcellation=paths))
    mesh = PolyMesh(*(_sheet(tmp_path / f"{side}.gii", size) for side, size in (("L", 50), ("R", 40))))
    data = {"left": noise(20, 50, seed=1).T, "right": noise(20, 40, seed=2).T}
    # to nilearn a label is one region in both hemispheres: ours are told apart
    apart = {"left": left, "right": np.where(right > 0, right + 100, 0)}
    masker = SurfaceLabelsMasker(SurfaceImage(mesh, apart), standardize=None)
    np.testing.assert_allclose(y, masker.fit_transform(SurfaceImage(mesh, data)), rtol=1e-6)
    assert list(table["hemisphere"]) == ["L"] * 4 + ["R"] * 4
    assert list(table["label"]) == [2, 5, 7, 30] * 2
    assert [name for name in table["name"] if isinstance(name, str)] == ["two", "thirty", "two", "five"]
    assert list(table["members"]) == [
        (side == label).sum() for side in (left, right) for label in (2, 5, 7, 30)
    ]


def _sheet(path: Path, size: int) -> Path:
    """A strip of triangles with so many vertices."""
    points = np.stack([np.arange(size), np.arange(size) % 2, np.zeros(size)], axis=1).astype(np.float32)
    faces = np.stack([np.arange(size - 2) + step for step in range(3)], axis=1).astype(np.int32)
    arrays = [
        nib.gifti.GiftiDataArray(points, "NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(faces, "NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)
    return path


def test_named_regions_alone_are_kept(volumes: Run, tmp_path: Path) -> None:
    labels = labels_of(SHAPE)
    path = save_labels(tmp_path / "atlas.nii.gz", labels)
    (tmp_path / "atlas.tsv").write_text("index\tname\n2\tAuditory\n5\tMotor\n7\tVisual\n30\tRest\n")
    y, table = reduced(volumes, Targets(parcellation=(path,), rois=("Visual", "Auditory")))
    every, _ = reduced(volumes, Targets(parcellation=(path,)))
    np.testing.assert_array_equal(y, every[:, [0, 2]])
    assert list(table["name"]) == ["Auditory", "Visual"]
    apart, where = reduced(volumes, Targets(parcellation=(path,), rois=("Motor",), average=False))
    np.testing.assert_array_equal(apart, noise(*SHAPE, 20)[labels == 5].T)
    np.testing.assert_array_equal(where[["i", "j", "k"]], np.argwhere(labels == 5))
    assert set(where["name"]) == {"Motor"}
    assert set(where["label"]) == {5}


def test_fewer_targets_are_the_same_targets(volumes: Run, tmp_path: Path) -> None:
    path = save_labels(tmp_path / "atlas.nii.gz", labels_of(SHAPE))
    recorded = read_bold(volumes)
    for targets in (Targets(), Targets(parcellation=(path,)), Targets(parcellation=(path,), average=False)):
        regions = read_regions(volumes, None, targets)
        y = to_candidates(recorded, regions)
        keep = np.random.default_rng(0).random(y.shape[1]) < 0.6
        every, ids = to_targets(y, keep, regions), target_ids(keep, regions)
        some = np.arange(len(ids)) % 3 == 1
        fewer = narrowed(keep, ids[some], regions)
        np.testing.assert_array_equal(target_ids(fewer, regions), ids[some])
        np.testing.assert_array_equal(to_targets(y, fewer, regions), every[:, some])


def test_tsnr_is_mean_over_sd_and_nan_without_one() -> None:
    y = noise(50, 6)
    y[:, 2] = 9.0
    expected = y.astype(float).mean(axis=0) / np.where(y.std(axis=0) > 0, y.astype(float).std(axis=0), np.nan)
    np.testing.assert_allclose(tsnr(y), expected, rtol=1e-6)
    assert np.isnan(tsnr(y)[2])
    np.testing.assert_array_equal(unpack_tsnr(pack_tsnr(tsnr(y))), tsnr(y))
