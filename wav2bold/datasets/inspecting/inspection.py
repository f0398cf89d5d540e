"""What shards hold: `wav2bold inspect`.

All of it is in the card and in each subject's table of targets, so that no recording is opened: thousands of
them are told about in a second.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from wav2bold.datasets.inspecting.facts import Facts, StoryFacts, SubjectFacts
from wav2bold.datasets.inspecting.oddities import unlike
from wav2bold.datasets.shards import Shards
from wav2bold.places import Place, beside

AT_ONCE = 8
"""Tables read side by side: where they are far away, reading is waiting."""


def inspect(shards: Shards) -> Facts:
    """What the shards hold. Opens the card and one small file per subject.

    Raises DataError if a table of targets is missing or damaged.
    """
    card = shards.card
    with ThreadPoolExecutor(AT_ONCE) as readers:
        subjects = tuple(readers.map(partial(_subject, shards), card.subjects))
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
        unlike=tuple(unlike(subjects, stories, card.tr_s)),
    )


def quality_path(shards: Place) -> Path:
    """Where the quality page of some shards goes by default: beside them; for a URL, here."""
    return beside(shards, "quality.html")


def mean_of(table: pa.Table, column: str) -> float | None:
    """Mean over the targets that have a value; NaN if none has, None if there is no such column."""
    if column not in table.column_names:
        return None
    values = table[column].to_numpy().astype(np.float64)
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _subject(shards: Shards, name: str) -> SubjectFacts:
    card = shards.card.subjects[name]
    table = shards.target_table(name, ["ceiling", "tsnr"])
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
