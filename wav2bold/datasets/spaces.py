"""Where the simulated brain's targets lie: patches of a surface or of a grid of voxels.

Hearing targets spread over both superior temporal gyri from Heschl's gyrus, silent ones over both
hand areas. Landmarks are MNI152 coordinates in millimetres; fsaverage's own (MNI305) differ
by a few, which is no more than a landmark is sure to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from nilearn.datasets import load_fsaverage
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from wav2bold.errors import DataError

SUPERIOR_TEMPORAL = np.array(
    [[-45, -22, 9], [-52, -20, 7], [-60, -34, 13], [-63, -24, 7], [-62, -14, 2], [-58, -4, -4], [-55, 4, -9]]
)
"""Left Heschl's gyrus, then along the crown of the gyrus from behind to before it."""
HAND_AREA = np.array([[-40, -24, 56]])
"""Left hand area of the sensorimotor cortex, seen from the side."""
VOXEL_MM = 6.0
VOXELS = (27, 32, 24)
FIRST_VOXEL_MM = (-78.0, -108.0, -54.0)
"""Centre of voxel (0, 0, 0): with 6 mm voxels the grid then reaches to (78, 78, 84)."""


@dataclass(frozen=True, eq=False)
class Patch:
    """The targets of a simulated recording, and their places in a whole brain.

    space: BIDS name of the space.
    index: (targets,) ascending places in the flattened `shape`. Surface: vertices of the left and then
    the right hemisphere.  Volume: voxels in C order of (i, j, k).
    hearing: (targets,) bool, False for silent targets, which record noise only.
    shape: (left and right vertices,) or (I, J, K).  affine: (4, 4) voxel to mm, None for surfaces.
    """

    space: str
    kind: Literal["surface", "volume"]
    index: NDArray[np.int64]
    hearing: NDArray[np.bool_]
    shape: tuple[int, ...]
    affine: NDArray[np.float64] | None

    @property
    def size(self) -> int:
        return len(self.index)

    @property
    def hears(self) -> int:
        return int(self.hearing.sum())

    @property
    def silent(self) -> int:
        return self.size - self.hears


Side = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""Places of one hemisphere, and how far each is from the hearing and from the silent landmarks, mm."""


def fsaverage5_patch(hearing: int, silent: int) -> Patch:
    """A patch on both hemispheres of fsaverage5, nearest to the landmarks along the white surface.

    hearing, silent: targets, half of them on each side.  Raises DataError if there is no room for them.
    """
    mesh = load_fsaverage("fsaverage5")["white_matter"].parts
    sides: list[Side] = []
    vertices = 0
    for name, mirror in (("left", 1), ("right", -1)):
        surface = mesh[name]
        distances = [
            _along_surface(surface.coordinates, surface.faces, landmarks * np.array([mirror, 1, 1]))
            for landmarks in (SUPERIOR_TEMPORAL, HAND_AREA)
        ]
        sides.append((vertices + np.arange(len(distances[0])), distances[0], distances[1]))
        vertices += len(distances[0])
    index, hears = _chosen(sides, hearing, silent)
    return Patch("fsaverage5", "surface", index, hears, (vertices,), None)


def mni_patch(hearing: int, silent: int) -> Patch:
    """A patch of a whole-brain grid of 27 x 32 x 24 voxels of 6 mm in MNI space.

    hearing, silent: targets, half of them on each side.  Raises DataError if there is no room for them.
    """
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = FIRST_VOXEL_MM
    centres = np.asarray(np.indices(VOXELS).reshape(3, -1).T * VOXEL_MM + FIRST_VOXEL_MM, np.float64)
    sides: list[Side] = []
    for mirror in (1, -1):
        places = np.flatnonzero(centres[:, 0] * mirror < 0)  # x = 0 belongs to neither
        speech, vision = (
            _through_space(centres[places], landmarks * np.array([mirror, 1, 1]))
            for landmarks in (SUPERIOR_TEMPORAL, HAND_AREA)
        )
        sides.append((places, speech, vision))
    index, hears = _chosen(sides, hearing, silent)
    return Patch("MNI152NLin2009cAsym", "volume", index, hears, VOXELS, affine)


def _chosen(sides: Iterable[Side], hearing: int, silent: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The nearest places, ascending, and which of them hear. An odd target more is on the left."""
    hears: list[NDArray[np.int64]] = []
    rests: list[NDArray[np.int64]] = []
    for more, (places, to_speech, to_vision) in zip((1, 0), sides, strict=True):
        hears.append(places[np.argsort(to_speech, kind="stable")[: (hearing + more) // 2]])
        rests.append(places[np.argsort(to_vision, kind="stable")[: (silent + more) // 2]])
    both = np.concatenate([*hears, *rests])
    if len(np.unique(both)) < hearing + silent:
        raise DataError(
            f"{hearing} hearing and {silent} silent targets don't fit beside each other", "ask for fewer"
        )
    index = np.sort(both)
    return index, np.isin(index, np.concatenate(hears))


def _through_space(points: NDArray[np.float64], landmarks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance of each point (N, 3) to the nearest landmark (L, 3), mm: (N,)."""
    return np.asarray(np.linalg.norm(points[:, None] - landmarks[None], axis=2).min(axis=1))


def _along_surface(
    points: NDArray[np.float32], faces: NDArray[np.int32], landmarks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Distance of each vertex to the nearest landmark's vertex along the edges of a mesh, mm: (N,).

    Through space the other bank of the Sylvian fissure would be nearer than the same gyrus.
    """
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])), axis=0)
    lengths = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    graph = coo_array((lengths, (edges[:, 0], edges[:, 1])), shape=(len(points), len(points))).tocsr()
    starts = [int(np.linalg.norm(points - landmark, axis=1).argmin()) for landmark in landmarks]
    return np.asarray(dijkstra(graph, directed=False, indices=starts, min_only=True))
