"""However a folder of shards came about, its bytes are those of a `prepare` that did all at once."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from recordings import add_story, add_volumes, noise, save_labels
from stores import contents

from wav2bold.config import Cleaning, Split, Targets
from wav2bold.datasets.prepare import Prepared, prepare
from wav2bold.datasets.shards import open_shards
from wav2bold.errors import DataError

pytestmark = pytest.mark.usefixtures("small_ray")
SHAPE, VOLUMES = (9, 10, 7), 40
STORIES = ("alice", "bakery", "castle", "dune")
SPLIT = Split(validation=("castle",), test=("dune",))
ODD = "sub-1_task-castle*"
"""The recording in which a slab is constant: the others of its subject have more that varies."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects hear four stories, `alice` twice."""
    root = tmp_path_factory.mktemp("ways") / "recordings"
    for number, story in enumerate(STORIES):
        add_story(root, story, 70.0, seed=number)
        for subject in (1, 2):
            for run in (1, 2) if story == "alice" else (1,):
                y = noise(*SHAPE, VOLUMES, seed=100 * number + 10 * subject + run)
                if (subject, story) == (1, "castle"):
                    y[:4, :, 2] = 7.0
                add_volumes(root, y, f"sub-{subject}", story, run=run)
    return root


def means(folder: Path) -> Targets:
    """Regions of which some lie in the slab, some cut it, and some are away from it."""
    labels = (1 + np.arange(np.prod(SHAPE)) // 90).reshape(SHAPE).astype(np.int16)
    return Targets(parcellation=(save_labels(folder / "atlas.nii.gz", labels),))


def voxels(folder: Path) -> Targets:
    return Targets()


OPTIONS: Mapping[str, tuple[Cleaning, Callable[[Path], Targets], float | None]] = {
    "voxels": (Cleaning(high_pass_s=40.0), voxels, None),
    "float16": (Cleaning(high_pass_s=None, dtype="float16", drop_first=3, drop_last=2), voxels, None),
    "smoothed": (Cleaning(high_pass_s=None, smoothing_fwhm_mm=5.0), voxels, None),
    "means of regions": (Cleaning(high_pass_s=40.0), means, None),
    "by ceiling": (Cleaning(high_pass_s=40.0), voxels, 0.1),
    "means by ceiling": (Cleaning(high_pass_s=40.0), means, 0.02),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_way_gives_the_same_bytes(name: str, recordings: Path, tmp_path: Path) -> None:
    cleaning, kind, least = OPTIONS[name]
    targets = kind(tmp_path).model_copy(update={"min_ceiling": least})
    root = tmp_path / "recordings"
    shutil.copytree(recordings, root)

    def made(folder: Path) -> Prepared:
        return prepare(root, folder, cleaning, targets=targets, split=SPLIT)

    at_once, grown = tmp_path / "at once", tmp_path / "grown"
    done = made(at_once)
    assert done.dropped["sub-1"] > 0
    expected = contents(at_once)

    odd = [*(root / "sub-1").rglob(ODD)]
    assert odd
    for path in odd:
        path.rename(tmp_path / path.name)
    made(grown)  # its shards hold more targets, and are made narrower when the odd recording comes
    fewer = contents(grown)
    for path in odd:
        (tmp_path / path.name).rename(path)
    made(grown)
    assert contents(grown) == expected

    for path in odd:
        path.rename(tmp_path / path.name)
    made(grown)  # what the shards lack is only in the recordings
    assert contents(grown) == fewer
    for path in odd:
        (tmp_path / path.name).rename(path)

    next((grown / "bold").rglob("*.parquet")).unlink()
    made(grown)
    assert contents(grown) == expected


def test_a_ceiling_that_nothing_reaches_leaves_the_shards_as_they_were(
    recordings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    plain = Cleaning(high_pass_s=None)
    prepare(recordings, folder, plain, split=SPLIT)
    before = contents(folder)
    for cleaning in (plain, Cleaning(high_pass_s=40.0)):
        with pytest.raises(DataError, match=r"no target has a noise ceiling of 0.99; the highest is 0\."):
            prepare(recordings, folder, cleaning, targets=Targets(min_ceiling=0.99), split=SPLIT)
        assert contents(folder) == before
    assert open_shards(folder).card.cleaning["high_pass_s"] is None
