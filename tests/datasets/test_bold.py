"""BOLD is read whole or refused, and cleaned as textbooks say."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.signal import clean as nilearn_clean
from recordings import AFFINE, add_story, add_surfaces, add_volumes, noise, save_surface, save_volumes
from scipy.fft import idct
from scipy.ndimage import gaussian_filter
from scipy.signal import detrend

from wav2bold.config import Cleaning
from wav2bold.datasets.bold import candidates, read_bold, varying
from wav2bold.datasets.cleaning import clean, drifts, read_confounds
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.memory import cleaning_bytes, reading_bytes
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError


def run_of(tmp_path: Path, y: np.ndarray) -> Run:
    add_story(tmp_path, "story1")
    add_volumes(tmp_path, y)
    return find_runs(tmp_path)[0]


def residual(y: np.ndarray, nuisance: np.ndarray) -> np.ndarray:
    """Ordinary least squares with an intercept, then z-scores."""
    X = np.column_stack([np.ones(len(y)), nuisance])
    left = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    return (left - left.mean(axis=0)) / left.std(axis=0, ddof=1)


def test_candidates_are_voxels_in_c_order(tmp_path: Path) -> None:
    y = noise(3, 4, 2, 6)
    run = run_of(tmp_path, y)
    read = read_bold(run)
    assert read.dtype == np.float32
    where = candidates(run)
    for row in (0, 5, 23):
        np.testing.assert_array_equal(read[:, row], y[tuple(where.loc[row, ["i", "j", "k"]].astype(int))])


def test_smoothing_is_a_gaussian_of_that_width(tmp_path: Path) -> None:
    y = np.zeros((21, 21, 21, 2), np.float32)
    y[10, 10, 10] = [1.0, 2.0]
    run = run_of(tmp_path, y)
    sigma = 9.0 / np.sqrt(8 * np.log(2)) / np.diag(AFFINE)[:3]
    expected = gaussian_filter(y[..., 1], sigma, mode="constant", truncate=4.0)
    got = read_bold(run, smoothing_fwhm_mm=9.0)[1].reshape(21, 21, 21)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_single_volume_is_no_recording(tmp_path: Path) -> None:
    run = run_of(tmp_path, noise(3, 4, 2, 6))
    save_volumes(run.bold[0], noise(3, 4, 2), 2.0)
    with pytest.raises(DataError, match="3 x 4 x 2 is no series of volumes; give the 4-D BOLD file"):
        read_bold(run)


def test_text_named_nifti_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path, noise(3, 4, 2, 6))
    run.bold[0].write_text("hello")
    with pytest.raises(DataError, match=r"can't be read .*; the file is damaged or cut short"):
        read_bold(run)


@settings(max_examples=15, deadline=None)
@given(part=st.floats(0.0, 0.995))
def test_a_volume_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, part: float) -> None:
    run = run_of(tmp_path_factory.mktemp("cut"), noise(6, 6, 6, 8))
    whole = run.bold[0].read_bytes()
    run.bold[0].write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(DataError, match="can't be read"):
        read_bold(run)


def test_a_cut_surface_file_is_refused(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    left, _ = add_surfaces(tmp_path, noise(5, 30), noise(5, 30))
    (run,) = find_runs(tmp_path)
    left.write_bytes(left.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"hemi-L.*can't be read"):
        read_bold(run)


def test_hemispheres_of_different_length_are_refused(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    left, right = add_surfaces(tmp_path, noise(5, 3), noise(7, 3))
    (run,) = find_runs(tmp_path)
    with pytest.raises(DataError) as caught:
        read_bold(run)
    assert f"{left}: 5 volumes, {right.name} has 7" in str(caught.value)


def test_a_surface_without_time_is_refused(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    left, _ = add_surfaces(tmp_path, noise(5, 3), noise(5, 3))
    save_surface(left, noise(1, 3))
    with pytest.raises(DataError, match=r"1 arrays of shape .* are no time series"):
        read_bold(find_runs(tmp_path)[0])


def test_a_mask_cannot_select_vertices(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    add_surfaces(tmp_path, noise(5, 3), noise(5, 3))
    with pytest.raises(DataError, match=r"leave cleaning\.mask out"):
        read_bold(find_runs(tmp_path)[0], tmp_path / "mask.nii.gz")


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path, noise(3, 4, 2, 6))
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 2), np.uint8), AFFINE), tmp_path / "mask.nii.gz")
    with pytest.raises(DataError, match="selects no voxel"):
        read_bold(run, tmp_path / "mask.nii.gz")


def test_constant_and_infinite_targets_do_not_vary() -> None:
    y = noise(6, 5)
    y[:, 1] = 3.0
    y[2, 2], y[3, 3], y[4, 4] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(varying(y), [True, False, False, False, False])


def test_drifts_are_the_first_cosines_of_the_dct() -> None:
    volumes, tr_s = 200, 1.5
    got = drifts(volumes, tr_s, 128.0)
    terms = int(2 * volumes * tr_s / 128)  # half periods that fit
    truth = idct(np.eye(volumes)[1 : terms + 1], norm="ortho").T
    np.testing.assert_allclose(got, truth, atol=1e-12)


@pytest.mark.parametrize("straight", [True, False])
def test_cleaning_is_one_least_squares_fit(straight: bool) -> None:
    rng = np.random.default_rng(3)
    y, confounds = noise(120, 7), rng.standard_normal((120, 2)).cumsum(axis=0)
    y += (confounds @ rng.standard_normal((2, 7)) + 0.3 * np.arange(120)[:, None]).astype(np.float32)
    got = clean(y, 2.0, Cleaning(drop_first=5, detrend=straight), confounds)
    line = np.arange(115)[:, None] if straight else np.empty((115, 0))
    nuisance = np.column_stack([line, drifts(115, 2.0, 128.0), confounds[5:]])
    np.testing.assert_allclose(got, residual(y[5:].astype(float), nuisance), atol=1e-5)
    np.testing.assert_allclose(got.std(axis=0, ddof=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("volumes", [40, 400])
def test_cleaning_is_nilearns_whatever_the_scale_of_confounds_and_however_alike(volumes: int) -> None:
    y = 1e4 + 10 * noise(volumes, 50)
    one, other = np.random.default_rng(5).standard_normal((2, volumes)).cumsum(axis=1)
    line = np.arange(volumes, dtype=float)
    truth = nilearn_clean(
        y.astype(float),
        detrend=False,
        standardize="zscore_sample",
        confounds=np.column_stack([line, drifts(volumes, 2.0, 128.0), one, other]),
        filter=False,
    )
    alike = np.column_stack([1e6 * one, 1e-6 * other, one, one + other, np.full(volumes, 3.0)])
    for confounds in (np.column_stack([one, other]), alike):
        np.testing.assert_allclose(clean(y, 2.0, Cleaning(), confounds), truth, atol=1e-6)


def test_detrending_alone_is_scipys() -> None:
    y = noise(50, 4) + np.arange(50, dtype=np.float32)[:, None]
    truth = detrend(y.astype(float), axis=0)
    got = clean(y, 2.0, Cleaning(high_pass_s=None))
    np.testing.assert_allclose(got, truth / truth.std(axis=0, ddof=1), atol=1e-5)


def test_a_confound_like_a_drift_does_not_switch_drifts_off() -> None:
    """nilearn.signal.clean(filter="cosine") leaves every cosine out then."""
    cosines = drifts(150, 2.0, 128.0)
    y = noise(150, 3) + 500 * cosines[:, [1, 2, 3]].astype(np.float32)
    got = clean(y, 2.0, Cleaning(), cosines[:, [0]] + 1e-3 * noise(150, 1))
    np.testing.assert_allclose(cosines.T @ got, 0.0, atol=1e-3)


def test_many_targets_are_cleaned_like_few() -> None:
    y = noise(40, 9_000)
    few = clean(y[:, 8_190:8_195], 2.0, Cleaning(high_pass_s=40.0))
    np.testing.assert_allclose(clean(y, 2.0, Cleaning(high_pass_s=40.0))[:, 8_190:8_195], few, atol=1e-6)


def test_too_short_a_recording_says_what_cleaning_takes() -> None:
    with pytest.raises(DataError, match="10 volumes, from which cleaning takes 11 regressors; raise"):
        clean(noise(10, 3), 2.0, Cleaning(high_pass_s=4.2))


@pytest.fixture
def confounded(tmp_path: Path) -> Run:
    add_story(tmp_path, "story1")
    bold = add_volumes(tmp_path, noise(3, 4, 2, 4))
    table = "csf\tcsf_derivative1\tgaps\n1\tn/a\t1\n2\t1\tn/a\n4\t2\tn/a\n7\t3\t2\n"
    bold.with_name("sub-01_task-story1_run-1_desc-confounds_timeseries.tsv").write_text(table)
    return find_runs(tmp_path)[0]


def test_a_first_derivative_takes_the_seconds_value(confounded: Run) -> None:
    got = read_confounds(confounded, Cleaning(confounds=("csf_derivative1", "csf")), 4)
    np.testing.assert_array_equal(got, [[1, 1], [1, 2], [2, 4], [3, 7]])
    assert read_confounds(confounded, Cleaning(), 4) is None


@pytest.mark.parametrize(
    ("columns", "volumes", "message"),
    [
        (("cfs",), 4, "has no column cfs; did you mean csf?"),
        (("csf",), 5, "4 rows, the BOLD has 5 volumes"),
        (("gaps",), 4, "gaps holds gaps; choose a column that is whole"),
    ],
)
def test_confounds_that_do_not_fit_are_named(
    confounded: Run, columns: tuple[str, ...], volumes: int, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_confounds(confounded, Cleaning(confounds=columns), volumes)
    assert message in str(caught.value)
    assert str(confounded.confounds) in str(caught.value)


def test_confounds_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    run = run_of(tmp_path, noise(3, 4, 2, 4))
    with pytest.raises(DataError, match=r"confounds_timeseries\.tsv beside it; add it or empty"):
        read_confounds(run, Cleaning(confounds=("csf",)), 4)


def test_memory_of_surfaces_is_told_by_their_first_lines(tmp_path: Path) -> None:
    add_story(tmp_path, "story1")
    left, _ = add_surfaces(tmp_path, noise(14, 10), noise(14, 7))
    run = find_runs(tmp_path)[0]
    assert reading_bytes(run) == cleaning_bytes(volumes=14, candidates=17)
    left.write_bytes(b"no surface")  # reading it will tell
    assert reading_bytes(run) == 0
