"""What the refinement of each subset of parameters brought: read from its folders, then averaged."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from wav2bold.config import LayerRange, ParameterType
from wav2bold.trainables.origin import ORIGIN

SUBSET = "subset"
"""Key of a refined encoder's origin: its subset's name, its types (unfrozen), how many parameters these have,
the encoder's layers, and the digest of the rest of the configuration."""
COLUMNS = ("subset", "subject", "trained", "parameters", "before", "after", "gain", "change")


@dataclass(frozen=True)
class SubsetScore:
    """What refining one subset brought one subject, or several on average.

    before, after: brain score on the validation stories, the encoder frozen and refined.
    parameters: of the encoder that were trained.  change: ||after - before|| / ||before|| over its types.
    helped: subjects of whom an epoch was kept in which the encoder was refined.  layers: of the encoder.
    """

    name: str
    unfrozen: Mapping[ParameterType, LayerRange | None]
    subjects: tuple[str, ...]
    before: float
    after: float
    parameters: int
    change: float
    helped: int
    layers: int

    @property
    def gain(self) -> float:
        """Change of the brain score; at least 0 where the epoch with the best score is kept."""
        return self.after - self.before


def subset_score(folder: Path) -> SubsetScore:
    """What the refinement in a folder brought."""
    told = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    subset = told["origin"][SUBSET]
    unfrozen = subset["unfrozen"]
    rows = pq.read_table(folder / "changes.parquet").to_pylist()
    own = [row for row in rows if row["type"] in unfrozen and within(row["layer"], unfrozen[row["type"]])]
    size = math.hypot(*(row["norm"] for row in own))
    moved = math.hypot(*(row["norm"] * row["change"] for row in own if row["norm"] > 0))
    return SubsetScore(
        name=subset["name"],
        unfrozen=unfrozen,
        subjects=(told["origin"]["subject"],),
        before=_number(told["epochs"][0]["score"]),
        after=_number(told["score"]),
        parameters=subset["parameters"],
        change=moved / size if size > 0 else math.nan,
        helped=int(told["epoch"] > 0),
        layers=subset["layers"],
    )


def averaged(scores: Iterable[SubsetScore]) -> list[SubsetScore]:
    """Means over subjects, by subset, in the order in which subsets first come."""
    by_name: dict[str, list[SubsetScore]] = {}
    for one in scores:
        by_name.setdefault(one.name, []).append(one)

    def mean(some: list[SubsetScore], key: str) -> float:
        return float(np.mean([getattr(one, key) for one in some]))

    return [
        replace(
            some[0],
            subjects=tuple(subject for one in some for subject in one.subjects),
            before=mean(some, "before"),
            after=mean(some, "after"),
            change=mean(some, "change"),
            helped=sum(one.helped for one in some),
        )
        for some in by_name.values()
    ]


def as_tsv(scores: Iterable[SubsetScore]) -> str:
    """A line per score, with tabs between, after one of COLUMNS."""
    lines = ["\t".join(COLUMNS)]
    for one in scores:
        numbers = (f"{value:.6g}" for value in (one.before, one.after, one.gain, one.change))
        words = (one.name, " ".join(one.subjects), trained(one.unfrozen), str(one.parameters), *numbers)
        lines.append("\t".join(words))
    return "\n".join(lines) + "\n"


def subset_folders(root: Path) -> list[Path]:
    """Refined encoders in `root/<subset>/<subject>`, in the order of types and layers where they have those.

    Only those of one kind, made from the same data with the same configuration but for what is trained: the
    most numerous.
    """
    origins: dict[Path, Mapping[str, Any]] = {}
    for path in sorted(root.glob(f"*/*/{ORIGIN}")):
        origin = json.loads(path.read_text(encoding="utf-8"))["origin"]
        if SUBSET in origin and not path.parent.name.startswith("."):
            origins[path.parent] = origin
    kinds = Counter(map(_kind, origins.values()))
    chosen = [folder for folder, origin in origins.items() if _kind(origin) == kinds.most_common(1)[0][0]]
    return sorted(chosen, key=lambda folder: _natural(folder.parent.name))


def trained(unfrozen: Mapping[ParameterType, LayerRange | None]) -> str:
    """Types and their layers: `attention 0-2 + bias`."""
    return " + ".join(kind if span is None else f"{kind} {_span(span)}" for kind, span in unfrozen.items())


def within(layer: int | None, span: LayerRange | None) -> bool:
    """Whether a range of layers, None for all, has this one; None is what lies in no layer."""
    return span is None or (layer is not None and span[0] <= layer <= span[1])


def _kind(origin: Mapping[str, Any]) -> str:
    """What two refinements must share to be compared."""
    others = {key: value for key, value in origin.items() if key not in (SUBSET, "subject", "configuration")}
    return json.dumps(others | {"rest": origin[SUBSET]["rest"]}, sort_keys=True)


def _natural(name: str) -> list[tuple[int, str]]:
    """attention-2 before attention-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.replace("-", " ").split()]


def _span(span: LayerRange) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
