"""Regions are found by the names people wrote beside them, and a map that doesn't fit is refused."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from recordings import AFFINE, add_story, add_surfaces, add_volumes, noise, save_surface_labels

from wav2bold.config import Targets
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.regions import read_names, read_regions, region_files
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError

SIZES = (("l", 5), ("r", 4))
NAMED = {1: "Heschl's gyrus", 2: "Area 4", 10: "Left-Cerebellum"}


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".tsv", "index\tname\tcolor\n1\tHeschl's gyrus\t#ff0000\n2\tArea 4\t\n10\tLeft-Cerebellum\tx\n"),
        (".tsv", "name\tindex\nHeschl's gyrus\t1\nArea 4\t2\nLeft-Cerebellum\t10\n"),
        (".json", '{"1": "Heschl\'s gyrus", "2": "Area 4", "10": "Left-Cerebellum"}'),
        (".txt", "1 Heschl's gyrus\n2 Area 4\n10\tLeft-Cerebellum\n"),
        (
            ".txt",
            (
                "#No. Label R G B A\n\n  1  Heschl's gyrus 25 5 25 0\n2 Area 4 1 2 3 0\n"
                "10 Left-Cerebellum 0 0 0 0\n"
            ),
        ),
    ],
)
@pytest.mark.parametrize("image", ["my atlas.nii.gz", "atlas.v1.nii"])
def test_names_are_read_from_the_file_beside(tmp_path: Path, suffix: str, text: str, image: str) -> None:
    path = tmp_path / image
    assert read_names(path) == {}
    names = tmp_path / (image.partition(".nii")[0] + suffix)
    names.write_text(text, encoding="utf-8")
    assert read_names(path) == NAMED
    assert region_files(Targets(parcellation=(path,))) == [path, names]


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".tsv", "number\tregion\n1\tone\n"),
        (".tsv", ""),
        (".tsv", "index\tname\none\t1\n"),
        (".json", "[1, 2]"),
        (".json", "{"),
        (".txt", "one\ntwo\n"),
    ],
)
def test_a_file_without_names_is_named(tmp_path: Path, suffix: str, text: str) -> None:
    (tmp_path / f"atlas{suffix}").write_text(text)
    with pytest.raises(DataError) as caught:
        read_names(tmp_path / "atlas.nii.gz")
    assert str(caught.value).startswith(
        f"{tmp_path / f'atlas{suffix}'}: holds no names of labels; write a .tsv"
    )


@pytest.fixture
def volumes(tmp_path: Path) -> Run:
    add_story(tmp_path, "story1")
    add_volumes(tmp_path, noise(3, 4, 2, 6))
    return find_runs(tmp_path)[0]


@pytest.fixture
def surfaces(tmp_path: Path) -> Run:
    add_story(tmp_path, "story1")
    add_surfaces(tmp_path, noise(6, 5), noise(6, 4))
    return find_runs(tmp_path)[0]


def atlas(folder: Path, labels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(labels, affine), folder / "atlas.nii.gz")
    return folder / "atlas.nii.gz"


def side(path: Path, *labels: np.ndarray) -> Path:
    arrays = [nib.gifti.GiftiDataArray(one.astype(np.int32), "NIFTI_INTENT_LABEL") for one in labels]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)
    return path


def refused(run: Run, *paths: Path, rois: tuple[str, ...] = (), recorded: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_regions(run, None, Targets(parcellation=paths, rois=rois), recorded)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.cure
    return message


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int16)


def test_another_grid_is_refused(volumes: Run, tmp_path: Path) -> None:
    message = refused(volumes, atlas(tmp_path, ones(3, 4, 3)))
    assert "atlas.nii.gz: 3 x 4 x 3 voxels" in message
    assert message.endswith("resample the parcellation onto the recordings' grid")
    assert "or they lie elsewhere" in refused(volumes, atlas(tmp_path, ones(3, 4, 2), 2 * AFFINE))


def test_a_stack_of_maps_is_refused(volumes: Run, tmp_path: Path) -> None:
    assert "atlas.nii.gz: can't be read (" in refused(volumes, atlas(tmp_path, ones(3, 4, 2, 5)))


def test_values_that_are_no_labels_are_refused(volumes: Run, tmp_path: Path) -> None:
    labels = ones(3, 4, 2) * np.float32(0.25)
    assert "holds 0.25, which is no label; give a label image" in refused(volumes, atlas(tmp_path, labels))


def test_labels_stored_as_floats_are_taken(volumes: Run, tmp_path: Path) -> None:
    regions = read_regions(volumes, None, Targets(parcellation=(atlas(tmp_path, np.float32(ones(3, 4, 2))),)))
    assert regions is not None
    assert list(regions.table["label"]) == [1]


def test_a_map_of_nothing_is_refused(volumes: Run, tmp_path: Path) -> None:
    assert "labels nothing within the recordings" in refused(volumes, atlas(tmp_path, 0 * ones(3, 4, 2)))


def test_a_missing_map_is_named(volumes: Run, tmp_path: Path) -> None:
    assert "gone.nii.gz: no such file" in refused(volumes, tmp_path / "gone.nii.gz")


def test_voxels_and_vertices_are_told_apart(volumes: Run, tmp_path: Path) -> None:
    left = side(tmp_path / "l.label.gii", ones(5))
    assert re.search(
        r"can't be laid over voxels of .*; give one NIfTI label image", refused(volumes, left, left)
    )


def test_a_surface_asks_for_both_sides(surfaces: Run, tmp_path: Path) -> None:
    left = side(tmp_path / "l.label.gii", ones(5))
    assert "labels of one hemisphere; give left and right, in a list" in refused(surfaces, left)
    message = refused(surfaces, atlas(tmp_path, ones(3, 4, 2)))
    assert re.search(r"can't be laid over vertices of .*; give left and right label GIFTI", message)


def test_another_number_of_vertices_is_refused(surfaces: Run, tmp_path: Path) -> None:
    paths = [side(tmp_path / f"{name}.label.gii", ones(5)) for name in "lr"]
    message = refused(surfaces, *paths, recorded=9)
    assert f"{paths[0]}: 10 vertices on both sides, {surfaces.bold[0]} and its partner have 9" in message


def test_a_gifti_that_holds_no_labels_is_refused(surfaces: Run, tmp_path: Path) -> None:
    right = side(tmp_path / "r.label.gii", ones(4))
    message = refused(surfaces, side(tmp_path / "l.label.gii", ones(5), ones(5)), right)
    assert "l.label.gii: holds no label of each vertex; give a .label.gii with one array" in message


def test_a_region_that_is_not_there_is_named_with_the_nearest(volumes: Run, tmp_path: Path) -> None:
    labels = ones(3, 4, 2)
    labels[0] = 2
    path = atlas(tmp_path, labels)
    assert "its regions have no names; write them to atlas.tsv" in refused(volumes, path, rois=("STG",))
    (tmp_path / "atlas.txt").write_text("1 Auditory\n2 Visual\n3 Absent\n")
    assert "has no region Auditry; did you mean Auditory?" in refused(volumes, path, rois=("Auditry",))
    assert "has no region zzz; there are Auditory, Visual" in refused(volumes, path, rois=("zzz",))


def test_names_of_a_label_gifti_are_its_own(surfaces: Run, tmp_path: Path) -> None:
    paths = tuple(
        save_surface_labels(tmp_path / f"{name}.label.gii", ones(size), {0: "???", 1: "auditory"})
        for name, size in SIZES
    )
    regions = read_regions(surfaces, None, Targets(parcellation=paths, rois=("auditory",)), 9)
    assert regions is not None
    assert list(regions.table["hemisphere"]) == ["L", "R"]
    np.testing.assert_array_equal(regions.member, [0] * 5 + [1] * 4)


def test_label_giftis_of_the_other_hemisphere_are_refused(surfaces: Run, tmp_path: Path) -> None:
    paths = tuple(save_surface_labels(tmp_path / f"{name}.label.gii", ones(size)) for name, size in SIZES)
    for path, cortex in zip(paths, ("CortexLeft", "CortexRight"), strict=True):
        image = nib.load(path)
        image.meta["AnatomicalStructurePrimary"] = cortex
        nib.save(image, path)
    assert read_regions(surfaces, None, Targets(parcellation=paths), 9) is not None
    said = refused(surfaces, *paths[::-1])
    assert said.startswith(
        f"{paths[1]}: is given as the left hemisphere, its AnatomicalStructurePrimary says"
    )
    assert said.endswith("CortexRight; exchange the names of the two files, or set it right")
