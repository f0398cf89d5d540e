"""How much memory a task of `prepare` takes, so that Ray runs no more of them at once than fit."""

import math

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
BLOCK_COPIES = 4
"""A block of targets in float64, its drifts, what remains of it and what nilearn holds beside."""
PACKED = 2
"""Float32 in memory over gzip, or gzip in base64, on disk: 1 for noise, more for much that is constant."""


def cleaning_bytes(volumes: int, candidates: int) -> int:
    """Memory to read and clean a recording of this size, beside the worker's own."""
    block = 8 * volumes * min(candidates, BLOCK)
    return COPIES * 4 * volumes * candidates + BLOCK_COPIES * block


def reading_bytes(run: Run) -> int:
    """The same before anything was read: from the header, or from the size of files that have none.

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
        return COPIES * PACKED * sum(half.stat().st_size for half in run.bold)
    except (DataError, *UNREADABLE):
        return 0
