"""Whose targets are predicted, and what the shards' tables of targets say of them."""

# V targets of all people, one person's after the other's

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wav2bold.datasets.shards import Shards, in_common
from wav2bold.errors import DataError

INDICES = ("i", "j", "k", "hemisphere", "structure", "vertex", "column", "label", "name")
MILLIMETRES = ("x_mm", "y_mm", "z_mm")
"""Columns of the shards' tables of targets that say where one is; nearer than 0.01 mm is the same place."""
NAMES = ("hemisphere", "label", "name")
"""Those that do for the mean of a region: its centre depends on what was left out of it."""


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


def refuse_other_places(shards: Shards, people: Iterable[str]) -> None:
    """Raise DataError if people's targets are not the same places: then no head can be shared.

    people: each once or more. Means of regions of one name are alike in all; voxels and vertices are where
    the space is common to all.
    """
    first, *others = dict.fromkeys(map(str, people))
    table = shards.target_table(first)
    for other in others:
        unlike = _difference(table, shards.target_table(other))
        if unlike is None and not in_common(shards.card.space) and "members" not in table.column_names:
            unlike = f"their space is {shards.card.space}, each person's own"
        if unlike is not None:
            raise DataError(
                f"head: shared needs the same targets in all, and {first} and {other} differ: {unlike}",
                "set head: linear, or prepare them in a common space with one mask or parcellation",
            )


def _difference(one: pa.Table, other: pa.Table) -> str | None:
    """In what two people's tables of targets differ, None if all are the same places."""
    if len(one) != len(other):
        return f"they have {len(one):,} and {len(other):,} targets"
    ours, theirs = _places(one), _places(other)
    if ours.keys() != theirs.keys():
        return f"they are told by {_listed(ours)} and by {_listed(theirs)}"
    for name, place in ours.items():
        if not place.equals(theirs[name]):
            pairs = list(zip(place.to_pylist(), theirs[name].to_pylist(), strict=True))
            row = next(row for row, (here, there) in enumerate(pairs) if here != there)
            return f"{name} of target {row} is {pairs[row][0]} and {pairs[row][1]}"
    return None


def _places(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns that tell where targets are."""
    told = NAMES if "members" in table.column_names else (*INDICES, *MILLIMETRES)
    return {
        name: pc.round(table[name], 2) if name in MILLIMETRES else table[name]
        for name in told
        if name in table.column_names
    }


def _listed(places: dict[str, pa.ChunkedArray]) -> str:
    return ", ".join(places) or "nothing"
