"""How far refinement moved an encoder, by parameter type and transformer layer."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
from torch import nn

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
        # float64: sums over millions of squares
        old, new = (tensor.detach().cpu().double() for tensor in (parameter, later[name]))
        place = parameter_type(name)
        counts[place] += old.numel()
        norms[place] += [float((new - old).square().sum()), float(old.square().sum())]
    rows = sorted(
        counts, key=lambda place: (PARAMETER_TYPES.index(place[0]), -1 if place[1] is None else place[1])
    )
    moved, size = np.sqrt([norms[place] for place in rows]).T
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.where(size > 0, moved / size, np.nan)
    kinds, layers = zip(*rows, strict=True)
    columns = [kinds, layers, [counts[place] for place in rows], change, size]
    return pa.table([pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)
