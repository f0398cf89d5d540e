"""Write recordings and stimuli as fMRIPrep and a lab leave them: BIDS derivatives."""

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.spaces import Patch

BIDS_VERSION = "1.10.0"


def write_study_files(
    root: Path,
    subjects: Sequence[str],
    stories: Mapping[str, NDArray[np.float32]],
    name: str = "Simulated listeners",
) -> None:
    """What a dataset says of itself: its description, its participants, and the sound of each story.

    subjects: `sub-001`, ...  stories: (samples,) each, 16 kHz, within -1 to 1; written as 16-bit WAV.
    """
    stimuli = root / "stimuli"
    stimuli.mkdir(parents=True, exist_ok=True)
    description = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "wav2bold", **_version()}],
    }
    _write_json(root / "dataset_description.json", description)
    pd.DataFrame({"participant_id": list(subjects)}).to_csv(root / "participants.tsv", sep="\t", index=False)
    for story, sound in stories.items():
        soundfile.write(stimuli / f"{story}.wav", sound, SAMPLE_RATE_HZ, subtype="PCM_16")


def write_run(
    root: Path,
    subject: str,
    story: str,
    repeat: int | None,
    patch: Patch,
    y: NDArray[np.float32],
    tr_s: float,
    onset_s: float,
    duration_s: float,
) -> tuple[Path, ...]:
    """One recording with its sidecars and events. Whatever lies outside the patch is 0.

    subject: `sub-001`.  story: letters and digits, as a task's label must be.
    repeat: number of this recording where the story is heard several times, else None.
    y: (volumes, targets) in the scanner's units, targets in the order of `patch.index`.
    onset_s, duration_s: when the story begins in the scan and how long it lasts, seconds.
    Returns the BOLD files: left and right GIFTI, or one NIfTI.
    """
    folder = root / subject / "func"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{subject}_task-{story}" + (f"_run-{repeat}" if repeat is not None else "")
    write = _write_surfaces if patch.kind == "surface" else _write_volumes
    files = write(folder, stem, patch, y, tr_s)
    for path in files:
        sidecar = path.with_name(path.name.partition(".")[0] + ".json")
        _write_json(sidecar, {"RepetitionTime": tr_s, "TaskName": story})
    row = {"onset": onset_s, "duration": duration_s, "trial_type": story, "stim_file": f"{story}.wav"}
    pd.DataFrame([row]).to_csv(folder / f"{stem}_events.tsv", sep="\t", index=False)
    return files


def _write_surfaces(
    folder: Path, stem: str, patch: Patch, y: NDArray[np.float32], tr_s: float
) -> tuple[Path, ...]:
    gifti: Any = nib.gifti  # nibabel gives its classes no types
    files: list[Path] = []
    for letter, side, values in zip("LR", ("Left", "Right"), np.hsplit(_whole(patch, y), 2), strict=True):
        # Milliseconds, as FreeSurfer writes and reads them
        meta = {"AnatomicalStructurePrimary": f"Cortex{side}", "TimeStep": f"{tr_s * 1000:.6f}"}
        arrays = [
            gifti.GiftiDataArray(
                volume,
                intent="NIFTI_INTENT_TIME_SERIES",
                datatype="NIFTI_TYPE_FLOAT32",
                encoding="GIFTI_ENCODING_B64GZ",
            )
            for volume in values
        ]
        files.append(folder / f"{stem}_hemi-{letter}_space-{patch.space}_bold.func.gii")
        gifti.GiftiImage(meta=gifti.GiftiMetaData(meta), darrays=arrays).to_filename(files[-1])
    return tuple(files)


def _write_volumes(
    folder: Path, stem: str, patch: Patch, y: NDArray[np.float32], tr_s: float
) -> tuple[Path, ...]:
    nifti: Any = nib.Nifti1Image  # as above
    image = nifti(_whole(patch, y).T.reshape(*patch.shape, len(y)), patch.affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    image.header.set_xyzt_units("mm", "sec")
    path = folder / f"{stem}_space-{patch.space}_desc-preproc_bold.nii.gz"
    image.to_filename(path)
    return (path,)


def _whole(patch: Patch, y: NDArray[np.float32]) -> NDArray[np.float32]:
    """The whole brain, (volumes, vertices or voxels)."""
    brain = np.zeros((len(y), int(np.prod(patch.shape))), np.float32)
    brain[:, patch.index] = y
    return brain


def _version() -> dict[str, str]:
    try:
        return {"Version": importlib.metadata.version("wav2bold")}
    except importlib.metadata.PackageNotFoundError:  # run from a checkout; BIDS lets the version be absent
        return {}


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
