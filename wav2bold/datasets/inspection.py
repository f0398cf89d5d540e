"""What shards hold, and which subjects and recordings are unlike the others: `wav2bold inspect`.

All of it is in the card and in each subject's table of targets, so that no recording is opened: thousands of
them are told about in a second.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from wav2bold.datasets.shards import Shards
from wav2bold.pages.words import count

FEW = 0.9
"""Share of the median above which nobody has little of anything: a tenth less is like the others."""
ODD_LENGTH = 0.05
"""Share of a story's median number of volumes by which a recording may differ, and be like the others."""
FEW_VOLUMES = 2
"""By which it may differ in any case: scanners are stopped by hand."""
FAR = 3.0
"""Robust standard deviations (1.4826 times the median absolute deviation) below the median: a low value."""
ENOUGH = 5
"""Subjects without which nobody is told to be far from the others."""


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


def inspect(shards: Shards) -> Facts:
    """What the shards hold. Opens the card and one small file per subject.

    Raises DataError if a table of targets is missing or damaged.
    """
    card = shards.card
    subjects = tuple(_subject(shards, name) for name in card.subjects)
    stories = tuple(_story(name, about.seconds, subjects) for name, about in card.stories.items())
    return Facts(
        shards=str(shards.root),
        name=card.name,
        digest=card.digest,
        tr_s=card.tr_s,
        space=card.space,
        cleaning=card.cleaning,
        recordings=sum(one.recordings for one in subjects),
        volumes=sum(one.total for one in subjects),
        seconds=sum(one.seconds for one in subjects),
        subjects=subjects,
        stories=stories,
        unlike=tuple(_unlike(subjects, stories, card.tr_s)),
    )


def quality_path(shards: Path) -> Path:
    """Where the quality page of a folder of shards goes by default: beside it."""
    return shards.resolve().parent / "quality.html"


def mean_of(table: pd.DataFrame, column: str) -> float | None:
    """Mean over the targets that have a value; NaN if none has, None if there is no such column."""
    if column not in table:
        return None
    values = table[column].to_numpy(np.float64)
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _subject(shards: Shards, name: str) -> SubjectFacts:
    card = shards.card.subjects[name]
    table = shards.targets(name)
    volumes = {story: shards.volumes(name, story) for story in card.stories}
    ceiling = mean_of(table, "ceiling")
    return SubjectFacts(
        name=name,
        targets=card.targets,
        recordings=sum(card.stories.values()),
        seconds=shards.card.tr_s * sum(map(sum, volumes.values())),
        volumes=volumes,
        ceiling=math.nan if ceiling is None else ceiling,
        tsnr=mean_of(table, "tsnr"),
    )


def _story(name: str, seconds: float, subjects: Sequence[SubjectFacts]) -> StoryFacts:
    heard = [one.volumes[name] for one in subjects if name in one.volumes]
    counts = [volumes for recordings in heard for volumes in recordings]
    return StoryFacts(name, seconds, len(heard), len(counts), min(counts), median(counts), max(counts))


def _unlike(subjects: Sequence[SubjectFacts], stories: Sequence[StoryFacts], tr_s: float) -> Iterator[Oddity]:
    """What stands out, in order of subjects."""
    if not subjects:
        return
    usual = median(one.targets for one in subjects)
    missing = _missing(subjects, stories)
    of_story = {story.name: story for story in stories}
    floors = {
        what: _floor([value for one in subjects if (value := getattr(one, what)) is not None])
        for what in ("ceiling", "tsnr")
    }
    for one in subjects:
        if one.name in missing:
            yield Oddity(one.name, None, "stories", missing[one.name])
        if one.targets < FEW * usual:
            yield Oddity(
                one.name, None, "targets", f"has {one.targets:,} targets, the median is {usual:,.0f}"
            )
        for what, label in (("ceiling", "mean ceiling"), ("tsnr", "mean tSNR")):
            value = getattr(one, what)
            if value is not None and value < floors[what]:
                yield Oddity(one.name, None, what, f"has a {label} of {value:.3g}, far below the others")
        for name, counts in one.volumes.items():
            for number, volumes in enumerate(counts, start=1):
                said = _odd_length(volumes, of_story[name], tr_s)
                if said:
                    which = f"recording {number} " if len(counts) > 1 else ""
                    yield Oddity(one.name, name, "length", which + said)


def _missing(subjects: Sequence[SubjectFacts], stories: Sequence[StoryFacts]) -> dict[str, str]:
    """Who lacks stories, and which.

    Where most subjects heard all that most heard, whoever did not; else only who heard far fewer than others.
    """
    common = [story.name for story in stories if 2 * story.subjects > len(subjects)]
    lacking = {one.name: [name for name in common if name not in one.volumes] for one in subjects}
    if common and 2 * sum(map(bool, lacking.values())) < len(subjects):
        return {
            name: f"did not hear {_some(names)}, which most others did"
            for name, names in lacking.items()
            if names
        }
    heard = [len(one.volumes) for one in subjects]
    floor = _floor(heard)
    return {
        one.name: f"heard {count(len(one.volumes), 'story')}, the median is {median(heard):g}"
        for one in subjects
        if len(one.volumes) < floor
    }


def _odd_length(volumes: int, story: StoryFacts, tr_s: float) -> str:
    """How a recording's length is odd; empty if it is not.

    Where all recordings of a story were cut short alike, as some are published, none of them is odd.
    """
    apart = volumes - story.median_volumes
    if abs(apart) <= max(FEW_VOLUMES, ODD_LENGTH * story.median_volumes):
        return ""
    if apart < 0 and volumes * tr_s < story.seconds:
        return f"has {volumes:,} volumes ({volumes * tr_s:,.0f} s), the story lasts {story.seconds:,.0f} s"
    of_two = story.recordings < 3  # each is as far from their median as the other
    return "" if of_two else f"has {volumes:,} volumes, the median is {story.median_volumes:,.0f}"


def _floor(values: Sequence[float]) -> float:
    """The value below which one is far from the others; minus infinity if there are too few to tell."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < ENOUGH:
        return -math.inf
    middle = median(finite)
    far = middle - FAR * 1.4826 * median(abs(value - middle) for value in finite)
    return min(far, FEW * middle)


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _without_nan(value: Any) -> Any:
    """The same, with None where a number is not finite: JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
