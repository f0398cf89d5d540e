"""What a folder of shards holds, as data."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SubjectFacts:
    """One subject's recordings.

    volumes: of each recording of each story, in order.  seconds: all recorded volumes times TR.
    ceiling: mean over targets; NaN where no target has one.  tsnr: the same; None if the shards don't tell.
    """

    name: str
    targets: int
    recordings: int
    seconds: float
    volumes: Mapping[str, tuple[int, ...]]
    ceiling: float
    tsnr: float | None

    @property
    def total(self) -> int:
        """Volumes in all recordings."""
        return sum(map(sum, self.volumes.values()))


@dataclass(frozen=True)
class StoryFacts:
    """One story and who heard it.

    seconds: length of its sound.  least_, median_, most_volumes: over its recordings.
    """

    name: str
    seconds: float
    subjects: int
    recordings: int
    least_volumes: int
    median_volumes: float
    most_volumes: int


@dataclass(frozen=True)
class Oddity:
    """How a subject, or its recording of a story, is unlike the others.

    kind: `stories`, `targets`, `ceiling`, `tsnr` or `length`.  what: the same in words, with the numbers.
    """

    subject: str
    story: str | None
    kind: str
    what: str

    @property
    def words(self) -> str:
        """What, and in which story."""
        return f"{self.story} {self.what}" if self.story else self.what


@dataclass(frozen=True)
class Facts:
    """What a folder of shards holds.

    name: what the recordings call themselves, "" if they don't.  volumes, seconds: of BOLD, all recordings.
    cleaning: the options, as in the study file.  unlike: what stands out, in order of subjects.
    """

    shards: str
    name: str
    digest: str
    tr_s: float
    space: str
    cleaning: Mapping[str, Any]
    recordings: int
    volumes: int
    seconds: float
    subjects: tuple[SubjectFacts, ...]
    stories: tuple[StoryFacts, ...]
    unlike: tuple[Oddity, ...]

    def to_json(self) -> str:
        """All of it for machines; a number that there isn't is null."""
        return json.dumps(_without_nan(asdict(self)), indent=2, allow_nan=False)


def _without_nan(value: Any) -> Any:
    """The same, with None where a number is not finite: JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
