"""Brains that a reader can turn: maps on the whole surface of fsaverage5, both hemispheres."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.pages.brains import HEMISPHERES, MESH_VERTICES, OUTWARDS, Scale, inflated
from wav2bold.pages.explore import Choice, Option, array, explorable

GAP_MM = 12.0
"""Between the hemispheres, which overlap when each is inflated by itself."""
GYRUS, SULCUS, UNSURE = "#cfcfcf", "#aeaeae", "#5c5c5c"
"""Greys of where there is no target, and of a target that chance explains, which is the darkest."""
STEPS = 128
"""Colours of a scale: more than an eye tells apart on a lit surface."""
DISTANCE = 1.5
"""Of the eye, in plotly's units: the longer side of both hemispheres together is about 1."""
VIEWS = {
    "the left": (-1, 0, 0.1),
    "the right": (1, 0, 0.1),
    "above": (0, -0.01, 1),
    "below": (0, -0.01, -1),
    "the front": (0, 1, 0.1),
    "the back": (0, -1, 0.1),
}
"""From where the eye looks: x to the right, y to the front, z up."""


@dataclass(frozen=True)
class TurnedMap:
    """targets: with hemisphere and vertex.  values: (V,).  sure: (V,) where chance doesn't explain them."""

    name: str
    targets: pd.DataFrame
    values: NDArray[np.float64]
    sure: NDArray[np.bool_]
    scale: Scale


def turned(maps: Sequence[TurnedMap], said: str) -> dict[str, Any]:
    """What `figures.html` shows: a brain to turn, with menus. maps: at least one."""
    surfaces = _surfaces()
    first, *_ = painted = [_painted(one) for one in maps]
    traces = [
        {
            "type": "mesh3d",
            "name": hemisphere,
            **surfaces[hemisphere].trace,
            "vertexcolor": first["vertexcolor"][number],
            "text": first["text"][number],
            "hoverinfo": "text",
            "lighting": {"ambient": 0.65, "diffuse": 0.6, "specular": 0.05, "roughness": 0.9},
        }
        for number, hemisphere in enumerate(HEMISPHERES.values())
    ]
    hidden = {"visible": False}
    scene = dict.fromkeys(("xaxis", "yaxis", "zaxis"), hidden)
    return explorable(
        "brain",
        "Turn the brain",
        said,
        traces,
        {
            "scene": scene | {"aspectmode": "data", "dragmode": "orbit"},
            "margin": {"l": 0, "r": 0, "t": 30, "b": 0},
        },
        (
            Choice("Map", tuple(Option(one.name, p) for one, p in zip(maps, painted, strict=True))),
            Choice(
                "Hemispheres",
                (
                    Option("both", {"visible": [True, True]}),
                    Option("left", {"visible": [True, False]}),
                    Option("right", {"visible": [False, True]}),
                ),
            ),
            Choice("Seen from", tuple(Option(name, layout=_camera(eye)) for name, eye in VIEWS.items())),
        ),
    )


@dataclass(frozen=True)
class _Surface:
    """trace: corners and faces as plotly's mesh3d has them.  bare: (vertices,) colour where no target is."""

    trace: dict[str, dict[str, str]]
    bare: NDArray[np.str_]


@cache
def _surfaces() -> dict[str, _Surface]:
    meshes, folds = inflated()
    found = {}
    for hemisphere in HEMISPHERES.values():
        corners, faces = meshes[hemisphere].coordinates.copy(), meshes[hemisphere].faces
        inner = corners[:, 0].max() if hemisphere == "left" else corners[:, 0].min()
        corners[:, 0] += OUTWARDS[hemisphere] * GAP_MM / 2 - inner
        places = dict(zip("xyz", corners.T.astype(np.float32), strict=True))
        sides = dict(zip("ijk", faces.T.astype(np.int16), strict=True))  # 10,242 vertices
        trace = {name: array(np.ascontiguousarray(values)) for name, values in (places | sides).items()}
        found[hemisphere] = _Surface(trace, np.where(folds[hemisphere] > 0, SULCUS, GYRUS))
    return found


def _painted(one: TurnedMap) -> dict[str, list[list[str]]]:
    """Colour and words of each vertex, of the left hemisphere and of the right."""
    table = mpl.colormaps[one.scale.colours]
    colours = np.array([mpl.colors.to_hex(table(share)) for share in np.linspace(0, 1, STEPS)])
    share = (one.values - one.scale.low) / (one.scale.high - one.scale.low)
    places = np.rint(np.clip(np.nan_to_num(share), 0, 1) * (STEPS - 1)).astype(np.int64)
    sure = one.sure & np.isfinite(one.values)
    painted = np.where(sure, colours[places], UNSURE)
    said = [
        f"r {value:.3f}" + ("" if is_sure else ", not significant")
        for value, is_sure in zip(one.values, sure, strict=True)
    ]
    found: dict[str, list[list[str]]] = {"vertexcolor": [], "text": []}
    for letter, hemisphere in HEMISPHERES.items():
        rows = np.flatnonzero((one.targets["hemisphere"] == letter) & (one.targets["vertex"] < MESH_VERTICES))
        vertices = one.targets["vertex"].to_numpy()[rows]
        colour = _surfaces()[hemisphere].bare.copy()
        colour[vertices] = painted[rows]
        text = np.full(MESH_VERTICES, "", object)
        text[vertices] = [said[row] for row in rows]
        found["vertexcolor"].append(colour.tolist())
        found["text"].append(text.tolist())
    return found


def _camera(eye: tuple[float, float, float]) -> dict[str, Any]:
    place = {axis: DISTANCE * part for axis, part in zip("xyz", eye, strict=True)}
    up = {"x": 0, "y": 0, "z": 1} if abs(eye[2]) < 1 else {"x": 0, "y": 1, "z": 0}
    return {"scene.camera": {"eye": place, "up": up, "center": {"x": 0, "y": 0, "z": 0}}}
