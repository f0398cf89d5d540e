"""Maps of values on the brain (nilearn, offline), as PNG, and what a page needs to show them."""

import base64
import io
import math
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

MESH_VERTICES = 10_242
"""Of one hemisphere of fsaverage5. The finer meshes of fsaverage begin with the same vertices."""
HEMISPHERES = {"L": "left", "R": "right"}
OUTWARDS = {"left": -1.0, "right": 1.0}
"""Where the outer side of a hemisphere looks, along x."""
TURNED_AWAY = -0.25
"""Cosine between a face's normal and the line of sight below which the rest of the brain hides it."""
VALUELESS = 0.6
"""Grey of a target without a value: darker than any fold."""
DPI = 180


@dataclass(frozen=True)
class Scale:
    """How values become colours: a matplotlib map between two ends."""

    colours: str
    low: float
    high: float

    def css(self, steps: int = 12) -> str:
        """The colours from low to high, for a CSS gradient."""
        table = mpl.colormaps[self.colours]
        return ", ".join(mpl.colors.to_hex(table(share)) for share in np.linspace(0, 1, steps))

    def legend(self, low: str, high: str, name: str) -> dict[str, str]:
        """What `figures.html` shows of it. low, high: what its ends are called."""
        return {"css": self.css(), "low": low, "high": high, "name": name}


@dataclass(frozen=True)
class _Side:
    """coordinates: (vertices, 3).  faces: (faces seen, 3) vertices.  shade: (vertices,) grey of each."""

    coordinates: NDArray[np.float64]
    faces: NDArray[np.int64]
    shade: NDArray[np.float64]


def can_map(targets: pd.DataFrame, space: str) -> bool:
    """Whether there is a brain to draw these targets on without a download."""
    surface = {"hemisphere", "vertex"} <= set(targets) and space.lower() in {
        "fsaverage",
        "fsaverage5",
        "fsaverage6",
    }
    return surface or ({"i", "x_mm", "y_mm", "z_mm"} <= set(targets) and space.lower().startswith("mni"))


def load() -> None:
    """Import what maps are drawn with; the first map would."""
    from nilearn import plotting  # noqa: F401


def score_scale(*scores: NDArray[np.float64]) -> Scale:
    """One scale for all maps of r, from 0 to the highest (99th percentile)."""
    return Scale("inferno", 0.0, _high(np.concatenate(scores)))


def amount_scale(*amounts: NDArray[np.float64]) -> Scale:
    """One scale for all maps of something that is never below 0, to the highest (99th percentile)."""
    return Scale("viridis", 0.0, _high(np.concatenate(amounts)))


def difference_scale(*differences: NDArray[np.float64]) -> Scale:
    """One scale for all maps of a difference in r, symmetric about 0."""
    high = _high(np.abs(np.concatenate(differences)))
    return Scale("RdBu_r", -high, high)


def brain_map(targets: pd.DataFrame, values: NDArray[np.float64], scale: Scale) -> bytes:
    """One value per target on the brain, PNG.

    Surfaces: both hemispheres of fsaverage5, inflated, seen from the side; a target whose value is NaN is
    dark grey. Volumes: a glass brain from the left, the front and the right; along each line of sight the
    value furthest from 0 shows, and NaN is not drawn.
    """
    surface = "vertex" in targets
    figure = Figure(figsize=(3.2, 1.6 if surface else 1.2), dpi=DPI)
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # what nilearn says of a map without any value, which is what a brain that heard nothing has
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        warnings.filterwarnings("ignore", "empty mask", UserWarning)
        (_draw_surfaces if surface else _draw_glass)(figure, targets, values, scale)
    file = io.BytesIO()
    seen = Bbox(((0, 0.2), (3.2, 1.4))) if surface else None  # a brain is wider than high
    figure.savefig(file, format="png", transparent=surface, bbox_inches=seen)
    return file.getvalue()


def shown_map(
    targets: pd.DataFrame, values: NDArray[np.float64], scale: Scale, title: str, alt: str
) -> dict[str, Any]:
    """`brain_map` as `figures.html` shows it. alt: what is to be seen, for those who don't see it."""
    return as_shown(brain_map(targets, values, scale), title, alt)


def as_shown(png: bytes, title: str, alt: str) -> dict[str, Any]:
    """The same of a map that was drawn before."""
    width, height = struct.unpack(">II", png[16:24])
    return {
        "title": title,
        "png": base64.b64encode(png).decode(),
        "width": width,
        "height": height,
        "alt": alt,
    }


def how_seen(space: str, glass: bool) -> str:
    """From where the brain is seen, for a caption."""
    if glass:
        return (
            "Glass brains from the left, the front and the right; along each line of sight the value "
            "furthest from 0 shows."
        )
    lacking = "" if space == "fsaverage5" else f", nor those of {space} that fsaverage5 lacks"
    return (
        "Both hemispheres of fsaverage5, inflated, from the side; grey where there is no target (gyri light, "
        f"sulci dark). Targets on the inner side are not seen{lacking}."
    )


def no_brain(targets: pd.DataFrame, space: str) -> str:
    """Why there is no map where `can_map` says no."""
    if "members" in targets:
        return (
            "Targets are means of regions, which the data set's tables name and place but don't outline, so "
            "they are not drawn on a brain."
        )
    return f"There is no brain at hand on which targets of the space {space} could be drawn."


def _draw_surfaces(figure: Figure, targets: pd.DataFrame, values: NDArray[np.float64], scale: Scale) -> None:
    from nilearn.plotting import plot_surf_stat_map
    from nilearn.surface import InMemoryMesh

    for number, (letter, hemisphere) in enumerate(HEMISPHERES.items()):
        axes: Any = figure.add_axes((0.5 * number, 0, 0.5, 1), projection="3d")
        shown = ((targets["hemisphere"] == letter) & (targets["vertex"] < MESH_VERTICES)).to_numpy()
        texture = np.full(MESH_VERTICES, np.nan)
        texture[targets["vertex"].to_numpy()[shown]] = np.clip(values[shown], scale.low, scale.high)
        side = _outer_sides()[hemisphere]
        shade = side.shade.copy()
        shade[targets["vertex"].to_numpy()[shown]] = VALUELESS
        plot_surf_stat_map(
            surf_mesh=InMemoryMesh(side.coordinates.copy(), side.faces),  # nilearn moves it
            stat_map=texture,
            bg_map=shade,
            hemi=hemisphere,
            view="lateral",
            engine="matplotlib",
            cmap=scale.colours,
            vmin=scale.low,
            vmax=scale.high,
            symmetric_cbar=False,
            colorbar=False,
            avg_method=_mean_of_corners,
            axes=axes,
            figure=figure,
        )
        axes.set_box_aspect(None, zoom=1.5)
        axes.patch.set_alpha(0)


@cache
def inflated() -> tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]]:
    """fsaverage5's inflated meshes and their folds, by hemisphere. Reading them takes as long as drawing."""
    from nilearn.datasets import load_fsaverage, load_fsaverage_data

    meshes = load_fsaverage("fsaverage5")["inflated"].parts
    return meshes, load_fsaverage_data(mesh="fsaverage5", data_type="curvature").data.parts


@cache
def _outer_sides() -> dict[str, _Side]:
    """What can be seen of each hemisphere from its side."""
    meshes, folds = inflated()
    sides = {}
    for hemisphere in HEMISPHERES.values():
        coordinates, faces = meshes[hemisphere].coordinates, meshes[hemisphere].faces
        corners = coordinates[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = OUTWARDS[hemisphere] * normals[:, 0] / np.linalg.norm(normals, axis=1)
        # two even greys, as atlases print gyri and sulci; nilearn stretches them, so both ends are given
        shade = np.where(folds[hemisphere] > 0, 0.2, 0.34)
        shade[0], shade[1] = 0.0, 1.0
        sides[hemisphere] = _Side(coordinates, faces[facing > TURNED_AWAY], shade)
    return sides


def _draw_glass(figure: Figure, targets: pd.DataFrame, values: NDArray[np.float64], scale: Scale) -> None:
    from nibabel import Nifti1Image
    from nilearn.plotting import plot_glass_brain

    ijk = targets[["i", "j", "k"]].to_numpy()
    xyz = targets[["x_mm", "y_mm", "z_mm"]].to_numpy(np.float64)
    # the affine of the grid, as its voxels' centres tell it
    solution, *_ = np.linalg.lstsq(np.column_stack([ijk, np.ones(len(ijk))]), xyz, rcond=None)
    affine = np.eye(4)
    affine[:3] = solution.T
    volume = np.zeros(ijk.max(0) + 2, np.float32)
    volume[tuple(ijk.T)] = np.nan_to_num(values)
    plot_glass_brain(
        Nifti1Image(volume, affine),
        display_mode="lyr",
        figure=figure,
        axes=(0, 0, 1, 1),
        annotate=False,
        colorbar=False,
        symmetric_cbar=False,
        plot_abs=False,
        threshold=1e-6,
        cmap=scale.colours,
        vmin=scale.low,
        vmax=scale.high,
    )


def _mean_of_corners(face: NDArray[np.float64]) -> float:
    """Mean of the corners that are targets; a plain mean would hide every face at the rim of a patch."""
    there = [value for value in face.tolist() if math.isfinite(value)]
    return sum(there) / len(there) if there else float("nan")


def _high(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return max(float(np.percentile(finite, 99)), 0.01) if len(finite) else 1.0
