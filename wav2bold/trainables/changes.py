"""How far refinement moved an encoder, by parameter type and transformer layer."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import nn
from torch.nn import Parameter

from wav2bold.config import PARAMETER_TYPES, ParameterType
from wav2bold.trainables.families import UNUSED
from wav2bold.trainables.parameter_types import parameter_type

SCHEMA = pa.schema(
    {
        "type": pa.string(),
        "layer": pa.int32(),
        "parameters": pa.int64(),
        "change": pa.float64(),
        "norm": pa.float64(),
    }
)


def changes(before: nn.Module, after: nn.Module) -> pa.Table:
    """Relative change of each parameter type in each layer: ||after - before|| / ||before||.

    Columns: type; layer (null below the layers, and for the encoder's own layer norm); parameters (how many
    numbers); change (Euclidean norms over all of them; NaN where all were 0 before); norm (that before). Rows
    in the order of `PARAMETER_TYPES`, then by layer. The parameter that only pretraining uses is left out.
    before, after: models of the same parameter names, on any device.
    """
    counts: dict[tuple[ParameterType, int | None], int] = defaultdict(int)
    norms: dict[tuple[ParameterType, int | None], np.ndarray] = defaultdict(lambda: np.zeros(2))
    later = dict(after.named_parameters())
    assert later.keys() == {name for name, _ in before.named_parameters()}, "models of other parameters"
    for name, parameter in before.named_parameters():
        if name == UNUSED:
            continue
        place = parameter_type(name)
        counts[place] += parameter.numel()
        norms[place] += _squares(parameter, later[name])
    rows = sorted(
        counts, key=lambda place: (PARAMETER_TYPES.index(place[0]), -1 if place[1] is None else place[1])
    )
    moved, size = np.sqrt([norms[place] for place in rows]).T
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.where(size > 0, moved / size, np.nan)
    kinds, layers = zip(*rows, strict=True)
    columns = [kinds, layers, [counts[place] for place in rows], change, size]
    return pa.table([pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)


def change_of(before: nn.Module, after: nn.Module, names: Iterable[str]) -> float:
    """Relative change of these parameters together, ||after - before|| / ||before||: 0.0 of none.

    before, after: as for `changes`. NaN where all were 0 before and are not now.
    """
    moved, size = sum(
        (_squares(before.get_parameter(name), after.get_parameter(name)) for name in names), np.zeros(2)
    )
    if moved == 0:
        return 0.0
    return float(np.sqrt(moved / size)) if size > 0 else float("nan")


def _squares(before: Parameter, after: Parameter) -> NDArray[np.float64]:
    """Sums of squares: of the change, and of what there was."""
    # float64: sums over millions of squares
    old, new = (tensor.detach().cpu().double() for tensor in (before, after))
    return np.array([float((new - old).square().sum()), float(old.square().sum())])
