"""Whose targets are predicted, and what the shards' tables of targets say of them."""

# V targets of all people, one person's after the other's

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wav2bold.datasets.shards import Shards


def targets_of(shards: Shards, people: NDArray[np.str_]) -> pa.Table:
    """A row per predicted target: `subject`, `target` (its number in that subject) and noise `ceiling`.

    people: (V,) whose each target is, as in `Windows.subject`. A ceiling is NaN where nothing tells it.
    """
    tables = []
    for person in dict.fromkeys(people.tolist()):
        table = shards.target_table(person, ["target", "ceiling"])
        tables.append(
            pa.table(
                {
                    "subject": pa.repeat(person, len(table)),
                    "target": table["target"].cast(pa.int32()),
                    "ceiling": table["ceiling"].cast(pa.float32()).fill_null(np.nan),
                }
            )
        )
    return pa.concat_tables(tables).combine_chunks()
