"""What refinement did inside encoders, as their folders tell it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open

from wav2bold.config import PARAMETER_TYPES
from wav2bold.trainables.origin import ORIGIN


@dataclass(frozen=True)
class Inside:
    """Of one subject's refined encoder.

    changes: columns type, layer (<NA> below the transformer's layers), parameters, change, norm, as
    `trainables.changes` gives them.  layer_weights: (K,) of its hidden states, where the head sums them; else
    None.  head: features and targets of the head.
    """

    changes: pd.DataFrame
    layer_weights: NDArray[np.float64] | None
    head: tuple[int, int]

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return int(self.changes["layer"].max()) + 1


def inside_of(folder: Path) -> Inside:
    """What a folder that `save_refined` wrote tells of its encoder."""
    told = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    weights = told.get("layer_weights")
    with safe_open(folder / "head.safetensors", "numpy") as head:
        features, targets = head.get_slice("weight").get_shape()
    return Inside(
        changes=pq.read_table(folder / "changes.parquet").to_pandas().astype({"layer": "Int64"}),
        layer_weights=None if weights is None else np.asarray(weights, np.float64),
        head=(features, targets),
    )


def mean_changes(encoders: Mapping[str, Inside]) -> pd.DataFrame:
    """Relative change of parameters by type and layer, mean over subjects.

    Columns: type, layer, parameters, change (NaN where all were 0 before refinement), subjects (how many). In
    the order of `PARAMETER_TYPES`, then from what lies below the layers up. At least one subject.
    """
    rows = pd.concat([one.changes for one in encoders.values()])
    rows = rows.assign(kind=rows["type"].map(PARAMETER_TYPES.index), place=rows["layer"].fillna(-1))
    means = rows.groupby(["kind", "place"], as_index=False).agg(
        type=("type", "first"),
        layer=("layer", "first"),
        parameters=("parameters", "first"),
        change=("change", "mean"),
        subjects=("change", "size"),
    )
    return means.drop(columns=["kind", "place"])
