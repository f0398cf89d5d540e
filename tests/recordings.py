"""Small recordings with exact BIDS names, written by nibabel."""

import json
from collections.abc import Collection
from pathlib import Path

import nibabel as nib
import numpy as np
import soundfile
from numpy.typing import NDArray

SPACE = "MNI152NLin2009cAsym"
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return (1000 + 10 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def add_story(root: Path, story: str, seconds: float = 20.0, seed: int = 0) -> Path:
    path = root / "stimuli" / f"{story}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 16_000))
    soundfile.write(path, sound, 16_000)
    return path


def add_events(root: Path, stem: str, story: str, onset_s: float) -> Path:
    path = root / stem.partition("_")[0] / "func" / f"{stem}_events.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"onset\tduration\tstim_file\n{onset_s}\t20.0\t{story}.wav\n")
    return path


def save_volumes(path: Path, y: NDArray[np.float32], tr_s: float) -> None:
    image = nib.Nifti1Image(y, AFFINE)
    image.header.set_zooms((3.0, 3.0, 4.0, tr_s)[: y.ndim])
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def save_surface(path: Path, y: NDArray[np.float32]) -> None:
    arrays = [nib.gifti.GiftiDataArray(row, "NIFTI_INTENT_TIME_SERIES") for row in y]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)


def add_volumes(
    root: Path,
    y: NDArray[np.float32],
    subject: str = "sub-01",
    story: str = "story1",
    run: int = 1,
    onset_s: float = 0.0,
    tr_s: float = 2.0,
    header_tr_s: float | None = None,
) -> Path:
    """y: (i, j, k, volumes). The header's TR is the sidecar's unless it is given."""
    stem = f"{subject}_task-{story}_run-{run}"
    path = root / subject / "func" / f"{stem}_space-{SPACE}_desc-preproc_bold.nii.gz"
    add_events(root, stem, story, onset_s)
    save_volumes(path, y, tr_s if header_tr_s is None else header_tr_s)
    sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
    sidecar.write_text(json.dumps({"RepetitionTime": tr_s}))
    return path


def add_pair(root: Path, stories: int, seconds: float, twice: Collection[str] = ()) -> Path:
    """Two subjects hear all stories, some twice. A voxel is constant in one recording of the first."""
    for number in range(stories):
        story = f"story{number}"
        add_story(root, story, seconds, seed=number)
        for subject in range(2):
            for run in (1, 2) if story in twice else (1,):
                y = noise(5, 4, 3, 14, seed=100 * number + 10 * subject + run)
                if (subject, number) == (0, 1):
                    y[2, 1, 0] = 100.0
                add_volumes(root, y, f"sub-{subject}", story, run=run)
    return root


def add_surfaces(
    root: Path,
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    subject: str = "sub-01",
    story: str = "story1",
    run: int = 1,
    onset_s: float = 0.0,
    tr_s: float = 2.0,
) -> tuple[Path, Path]:
    """left, right: (volumes, vertices)."""
    stem = f"{subject}_task-{story}_run-{run}"
    add_events(root, stem, story, onset_s)
    paths = []
    for side, y in (("L", left), ("R", right)):
        path = root / subject / "func" / f"{stem}_hemi-{side}_space-fsaverage5_bold.func.gii"
        save_surface(path, y)
        path.with_name(path.name.replace(".func.gii", ".json")).write_text(
            json.dumps({"RepetitionTime": tr_s})
        )
        paths.append(path)
    return paths[0], paths[1]


def save_labels(path: Path, labels: NDArray[np.generic]) -> Path:
    nib.save(nib.Nifti1Image(labels, AFFINE), path)
    return path


def save_surface_labels(path: Path, labels: NDArray[np.generic], names: dict[int, str] | None = None) -> Path:
    table = nib.gifti.GiftiLabelTable()
    for key, name in (names or {}).items():
        label = nib.gifti.GiftiLabel(key)
        label.label = name
        table.labels.append(label)
    array = nib.gifti.GiftiDataArray(labels.astype(np.int32), "NIFTI_INTENT_LABEL")
    nib.save(nib.gifti.GiftiImage(darrays=[array], labeltable=table), path)
    return path
