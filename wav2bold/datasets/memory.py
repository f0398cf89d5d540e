"""How much memory a task of `prepare` takes, so that Ray runs no more of them at once than fit."""

import math
import re
from pathlib import Path

import nibabel as nib

from wav2bold.datasets import matrices
from wav2bold.datasets.bold import UNREADABLE
from wav2bold.datasets.cifti import is_cifti
from wav2bold.datasets.cleaning import BLOCK
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError

WORKER_BYTES = 400_000_000
"""A Python with nilearn and pandas loaded holds 300 MB before it reads anything."""
COPIES = 3
"""As read, with targets side by side, and only those that are kept."""
BLOCK_COPIES = 3
"""A block of targets in float64, its drifts and confounds, and their product with the regressors."""
HEAD_BYTES = 1 << 16
"""A GIFTI file says at its beginning how many arrays it holds, and each array how long it is."""


def cleaning_bytes(volumes: int, candidates: int) -> int:
    """Memory to read and clean a recording of this size, beside the worker's own."""
    block = 8 * volumes * min(candidates, BLOCK)
    return COPIES * 4 * volumes * candidates + BLOCK_COPIES * block


def reading_bytes(run: Run) -> int:
    """The same before anything was read, from the header.

    0 for files that are damaged or absent: reading them will tell.
    """
    path = run.bold[0]
    try:
        if matrices.is_matrix(path):
            return cleaning_bytes(*matrices.size(path, run.member))
        if len(run.bold) == 1 and path.name.endswith((".nii", ".nii.gz")):
            image = nib.load(path)
            if is_cifti(image):
                return cleaning_bytes(*map(int, image.shape))
            *space, volumes = image.shape
            return cleaning_bytes(int(volumes), math.prod(map(int, space)))
        sizes = [_surface_size(half) for half in run.bold]
        return cleaning_bytes(sizes[0][0], sum(vertices for _, vertices in sizes))
    except (DataError, *UNREADABLE):
        return 0


def _surface_size(path: Path) -> tuple[int, int]:
    """Volumes and vertices of a GIFTI file, by its first lines. Raises ValueError if they don't say."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    found = [
        re.search(rb"\b" + name + rb"\s*=\s*[\"'](\d+)", head) for name in (b"NumberOfDataArrays", b"Dim0")
    ]
    if None in found:
        raise ValueError(f"{path}: says no size")
    arrays, length = (int(one[1]) for one in found if one)
    return arrays, length
