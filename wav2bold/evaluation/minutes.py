"""What minutes of a subject's data were found to be worth; read without what computes it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from wav2bold.config import Study
from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.saving import Saving

FOLDER = "efficiency"
KINDS = ("frozen", "others", "own")
"""Curves: of the encoder as it came, refined on others, and refined on others and then on the subject."""


@dataclass(frozen=True)
class Efficiency:
    """Brain scores of one subject's test stories against minutes of their training stories.

    minutes: (K,) ascending.  curves: by KINDS, K scores each with its interval.  savings: by the last two of
    KINDS, against the first.  others: who the encoder was refined on.  configuration: its digest.
    volumes, targets: of the test.  dataset: digest of the shards.
    """

    subject: str
    others: tuple[str, ...]
    minutes: tuple[float, ...]
    curves: Mapping[str, tuple[Interval, ...]]
    savings: Mapping[str, Saving]
    configuration: str
    volumes: int
    targets: int
    dataset: str

    def to_json(self) -> str:
        """As `from_json` reads it; infinity and NaN as Python's json writes them."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Efficiency":
        data = json.loads(text)
        for name in ("others", "minutes"):
            data[name] = tuple(data[name])
        data["curves"] = {
            kind: tuple(Interval(**one) for one in curve) for kind, curve in data["curves"].items()
        }
        data["savings"] = {kind: Saving(**one) for kind, one in data["savings"].items()}
        return cls(**data)


def efficiencies(study: Study, dataset: str) -> tuple[Efficiency, ...]:
    """What is known of each subject, of shards of that digest."""
    paths = sorted((study.results / FOLDER).glob("*.json"))
    found = (Efficiency.from_json(path.read_text(encoding="utf-8")) for path in paths)
    return tuple(one for one in found if one.dataset == dataset)
