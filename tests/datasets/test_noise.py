"""Noise is a real stretch of the recording, of neighbours, and another one for every seed."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage

from wav2bold.datasets.noise import resting_noise
from wav2bold.errors import DataError

VOLUMES, TARGETS = 40, 30


def write(path: Path, y: np.ndarray) -> Path:
    """Write (volumes, targets) in the format that the name asks for."""
    if path.suffix == ".npy":
        np.save(path, y)
    elif path.suffix == ".gii":
        arrays = [nib.gifti.GiftiDataArray(volume.astype(np.float32)) for volume in y]
        nib.GiftiImage(darrays=arrays).to_filename(path)
    elif path.suffix == ".mgz":
        nib.MGHImage(y.T[:, None, None].astype(np.float32), np.eye(4)).to_filename(path)
    else:
        nib.Nifti1Image(y.T.reshape(6, 5, -1, len(y)).astype(np.float32), np.eye(4)).to_filename(path)
    return path


def rest(targets: int = TARGETS) -> np.ndarray:
    return np.random.default_rng(3).normal(500, 20, (VOLUMES, targets))


def standard(y: np.ndarray) -> np.ndarray:
    return (y - y.mean(0)) / y.std(0)


@pytest.mark.parametrize("name", ["rest.npy", "rest.func.gii", "rest.mgz", "rest.nii", "rest.nii.gz"])
def test_all_of_a_recording_comes_back_z_scored(tmp_path: Path, name: str) -> None:
    y = rest()
    noise = resting_noise(write(tmp_path / name, y), VOLUMES, TARGETS, seed=0)
    np.testing.assert_allclose(noise, standard(y), atol=1e-4)


def test_a_stretch_is_consecutive_in_time_and_neighbouring(tmp_path: Path) -> None:
    y = rest()
    noise = resting_noise(write(tmp_path / "rest.npy", y), 25, 8, seed=5)
    found = [
        (start, first)
        for start in range(VOLUMES - 25 + 1)
        for first in range(TARGETS - 8 + 1)
        if np.allclose(noise, standard(y[start : start + 25, first : first + 8]), atol=1e-4)
    ]
    assert len(found) == 1


def test_a_seed_gives_its_own_stretch(tmp_path: Path) -> None:
    path = write(tmp_path / "rest.npy", rest())
    one, same = (resting_noise(path, 25, 8, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    others = [resting_noise(path, 25, 8, seed) for seed in range(2, 8)]
    assert len({other.tobytes() for other in [one, *others]}) >= 6


def test_vertices_of_fsaverage5_are_neighbours_on_its_sphere(tmp_path: Path) -> None:
    vertices = 10_242
    y = np.random.default_rng(0).normal(size=(12, vertices)).astype(np.float32)
    noise = resting_noise(write(tmp_path / "rest.mgz", y), 12, 50, seed=4)
    likeness = standard(noise).T @ standard(y) / 12
    chosen = likeness.argmax(axis=1)
    np.testing.assert_allclose(likeness.max(axis=1), 1, atol=1e-3)
    sphere = load_fsaverage("fsaverage5")["sphere"].parts["left"].coordinates[chosen]
    spread = np.linalg.norm(sphere - sphere.mean(0), axis=1).max()
    assert spread < 15  # 50 of 10,242 vertices on a sphere of 100 mm: a cap of about 14 mm


def test_targets_that_do_not_vary_or_are_no_numbers_are_passed_over(tmp_path: Path) -> None:
    y = rest()
    y[:, 3], y[7, 11] = 0.0, np.nan
    noise = resting_noise(write(tmp_path / "rest.npy", y), VOLUMES, TARGETS - 2, seed=0)
    np.testing.assert_allclose(noise, standard(np.delete(y, [3, 11], axis=1)), atol=1e-4)
    with pytest.raises(DataError) as caught:
        resting_noise(tmp_path / "rest.npy", VOLUMES, TARGETS - 1, seed=0)
    assert str(caught.value) == (
        f"{tmp_path / 'rest.npy'}: has 28 targets that vary, 29 are needed; "
        "give a larger recording or ask for fewer targets"
    )


def test_a_recording_that_is_too_short_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "rest.npy", rest())
    with pytest.raises(DataError) as caught:
        resting_noise(path, 41, 5, seed=0)
    assert str(caught.value) == (
        f"{path}: has 40 volumes, 41 are needed; give a longer recording or fewer --minutes"
    )


def test_a_recording_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "rest.npy", rest())
    before = resting_noise(path, VOLUMES, TARGETS, seed=0)
    write(path, rest()[::-1])
    np.testing.assert_allclose(resting_noise(path, VOLUMES, TARGETS, seed=0), before[::-1], atol=1e-6)


@pytest.mark.parametrize("name", ["rest.mgz", "rest.nii.gz", "rest.func.gii", "rest.npy", "rest.txt"])
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("no image")
    with pytest.raises(DataError, match=rf"{name}: can't be read \(.*; give a \.mgz, \.gii, \.nii"):
        resting_noise(path, 10, 5, seed=0)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rest.nii.gz", rest())
    path.write_bytes(path.read_bytes()[:2_000])
    with pytest.raises(DataError, match=r"rest\.nii\.gz: can't be read"):
        resting_noise(path, 10, 5, seed=0)


def test_a_single_volume_is_no_series(tmp_path: Path) -> None:
    path = tmp_path / "brain.nii"
    nib.Nifti1Image(np.ones((6, 5, 4), np.float32), np.eye(4)).to_filename(path)
    with pytest.raises(DataError, match=r"brain\.nii: 6 x 5 x 4 is no series of volumes; give 4-D BOLD"):
        resting_noise(path, 10, 5, seed=0)


def test_an_array_of_three_axes_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rest.npy", np.ones((4, 5, 6)))
    with pytest.raises(DataError, match=r"rest\.npy: has 3 axes; give an array of \(volumes, targets\)"):
        resting_noise(tmp_path / "rest.npy", 2, 2, seed=0)


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.mgz: no such file; give a resting-state recording"):
        resting_noise(tmp_path / "gone.mgz", 10, 5, seed=0)
