"""Simulated targets lie where people hear, and elsewhere."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.datasets import load_fsaverage, load_mni152_brain_mask
from nilearn.image import coord_transform

from wav2bold.datasets.spaces import Patch, fsaverage5_patch, mni_patch
from wav2bold.errors import DataError

PATCHES = pytest.mark.parametrize("make", [fsaverage5_patch, mni_patch])


def places_mm(patch: Patch) -> np.ndarray:
    """(targets, 3) coordinates, by nilearn's mesh or affine."""
    if patch.kind == "surface":
        mesh = load_fsaverage("fsaverage5")["white_matter"].parts
        return np.concatenate([mesh["left"].coordinates, mesh["right"].coordinates])[patch.index]
    i, j, k = np.unravel_index(patch.index, patch.shape)
    return np.stack(coord_transform(i, j, k, patch.affine), axis=1)


@PATCHES
@given(hearing=st.integers(1, 400), silent=st.integers(0, 150))
@settings(max_examples=8, deadline=None)
def test_there_are_as_many_targets_as_asked_for(
    make: Callable[[int, int], Patch], hearing: int, silent: int
) -> None:
    patch = make(hearing, silent)
    assert (patch.hears, patch.silent, patch.size) == (hearing, silent, hearing + silent)
    assert (np.diff(patch.index) > 0).all()
    assert patch.index[0] >= 0
    assert patch.index[-1] < np.prod(patch.shape)


@PATCHES
def test_hearing_targets_are_temporal_and_silent_ones_motor(make: Callable[[int, int], Patch]) -> None:
    patch = make(240, 60)
    x, y, z = places_mm(patch).T
    hears = patch.hearing
    assert (np.abs(x[hears]) > 35).all()
    assert ((y[hears] > -50) & (y[hears] < 20)).all()
    assert ((z[hears] > -25) & (z[hears] < 25)).all()
    assert ((np.abs(x[~hears]) > 20) & (z[~hears] > 35) & (y[~hears] > -50)).all()
    for chosen in (hears, ~hears):
        assert np.sum(x[chosen] < 0) == np.sum(x[chosen] > 0) == chosen.sum() / 2


def test_the_first_vertices_are_the_left_hemisphere() -> None:
    patch = fsaverage5_patch(240, 60)
    assert patch.shape == (2 * 10_242,)
    np.testing.assert_array_equal(patch.index < 10_242, places_mm(patch)[:, 0] < 0)


def test_most_voxels_lie_in_the_brain() -> None:
    patch, mask = mni_patch(240, 60), load_mni152_brain_mask(resolution=2)
    ijk = np.round(np.stack(coord_transform(*places_mm(patch).T, np.linalg.inv(mask.affine)))).astype(int)
    assert mask.get_fdata()[tuple(ijk)].mean() > 0.9


@PATCHES
def test_a_larger_patch_contains_the_smaller_one(make: Callable[[int, int], Patch]) -> None:
    small, large = make(60, 20), make(240, 60)
    for small_places, large_places in (
        (small.index[small.hearing], large.index[large.hearing]),
        (small.index[~small.hearing], large.index[~large.hearing]),
    ):
        assert np.isin(small_places, large_places).all()


@PATCHES
def test_more_targets_than_the_brain_has_room_for_are_refused(make: Callable[[int, int], Patch]) -> None:
    with pytest.raises(DataError) as caught:
        make(20_000, 5_000)
    assert str(caught.value) == (
        "20000 hearing and 5000 silent targets don't fit beside each other; ask for fewer"
    )
