"""The shards that `prepare` wrote: their card, and their reader.

The layout on disk, with units, is in docs/shards.md. Reading needs numpy, pandas and pyarrow only, so that
the training core can import this file; at a URL it needs that storage's fsspec package too.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wav2bold.errors import DataError
from wav2bold.pages.words import some
from wav2bold.places import Place, check_reachable, read_whole

SCHEMA_VERSION = 1
CARD_NAME = "dataset.json"
MARKER_NAME = ".wav2bold"
"""In every folder that `prepare` ever began to fill, finished or not."""
OWN_SPACES = {"native", "t1w", "t2w", "fsnative", "func", "orig", "boldref", "individual", "scanner"}
"""Spaces in which the same voxel or vertex of two people is not the same place."""


@dataclass(frozen=True)
class SubjectCard:
    """targets: numbers per volume.  stories: recordings of each story heard.

    volumes: of each of these recordings, in order; empty in shards of before it was written down.
    """

    targets: int
    stories: Mapping[str, int]
    volumes: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class StoryCard:
    """seconds: length of the sound.  digest: content address of its samples."""

    seconds: float
    digest: str


@dataclass(frozen=True)
class DatasetCard:
    """What the shards hold and what they were made from.

    name: what the recordings call themselves, "" if they don't.
    cleaning, targets: the options of `config.Cleaning` and `config.Targets`.
    inputs: digest of every file read, by its path within the recordings.
    libraries: versions that wrote the shards; they are not part of the digest.
    digest: content address of the whole, equal for equal inputs, options and schema.
    """

    tr_s: float
    space: str
    subjects: Mapping[str, SubjectCard]
    stories: Mapping[str, StoryCard]
    cleaning: Mapping[str, Any]
    inputs: Mapping[str, str]
    libraries: Mapping[str, str]
    digest: str
    name: str = ""
    schema_version: int = SCHEMA_VERSION
    targets: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "DatasetCard":
        data = json.loads(text)
        subjects = {name: SubjectCard(**card) for name, card in data.pop("subjects").items()}
        stories = {name: StoryCard(**card) for name, card in data.pop("stories").items()}
        return cls(**data, subjects=subjects, stories=stories)


@dataclass(frozen=True)
class Bold:
    """BOLD of one subject hearing one story.

    t: (T,) int32 number of the volume in the scan.
    time_s: (T,) float64 seconds in the story, below 0 before it begins.
    y: (T, V) float32 cleaned, z-scored over the scan.
    """

    t: NDArray[np.int32]
    time_s: NDArray[np.float64]
    y: NDArray[np.float32]


@dataclass(frozen=True)
class Shards:
    """An opened folder of shards. Small and picklable: every call reads the files."""

    root: Place
    card: DatasetCard

    def audio(self, story: str) -> NDArray[np.float32]:
        """The sound of a story: (samples,) float32 at 16 kHz."""
        self._known(story)
        table = _read(story_path(self.root, story), ["samples"])
        return np.concatenate([chunk.flatten().to_numpy() for chunk in table["samples"].chunks])

    def repeats(self, subject: str, story: str) -> list[Bold]:
        """Every recording of this subject hearing this story, in order."""
        return [self.repeat(subject, story, place) for place in range(self._known(story, subject))]

    def repeat(self, subject: str, story: str, place: int) -> Bold:
        """One recording of this subject hearing this story; `place` counts from 0."""
        return read_run(run_path(self.root, subject, story, place + 1))

    def bold(self, subject: str, story: str) -> Bold:
        """BOLD of this subject hearing this story: the mean over its recordings.

        Only volumes that every recording has are kept, matched on their time in the story; `t` counts in the
        first recording. A mean of recordings is no longer of unit variance.
        """
        return mean_bold(self.repeats(subject, story))

    def times(self, subject: str, story: str) -> NDArray[np.float64]:
        """The `time_s` of `bold`, seconds in the story, in order; nothing else of the files is read."""
        clocks = [
            _read(run_path(self.root, subject, story, repeat + 1), ["time_s"])["time_s"].to_numpy()
            for repeat in range(self._known(story, subject))
        ]
        shared = {round(time * 1e6) for time in clocks[0]}
        for clock in clocks[1:]:
            shared &= {round(time * 1e6) for time in clock}
        return np.array([time for time in clocks[0] if round(time * 1e6) in shared])

    def volumes(self, subject: str, story: str) -> tuple[int, ...]:
        """Volumes of every recording of this subject hearing this story, in order.

        The card knows; only where an older one doesn't, each recording's file is opened.
        """
        recordings = self._known(story, subject)
        told = self.card.subjects[subject].volumes.get(story)
        if told is not None:
            return tuple(told)
        paths = (run_path(self.root, subject, story, repeat + 1) for repeat in range(recordings))
        return tuple(_read(path, ["t"]).num_rows for path in paths)

    def targets(self, subject: str) -> pd.DataFrame:
        """One row per target: `target`, where it is (docs/shards.md), and its noise `ceiling`."""
        frame: pd.DataFrame = self.target_table(subject).to_pandas()
        return frame

    def target_table(self, subject: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The same as it lies in its file, of these columns those that there are.

        For hundreds of subjects: pandas takes ten times as long to make a frame as the file to be read.
        """
        self._known(None, subject)
        return _read(targets_path(self.root, subject), columns)

    def _known(self, story: str | None, subject: str | None = None) -> int:
        """Recordings there are of this story (in this subject). Raises DataError naming those there are."""
        if subject is not None and subject not in self.card.subjects:
            raise DataError(f"{self.root}: no subject {subject}", f"there are {some(self.card.subjects)}")
        if story is None:
            return 0
        stories = self.card.stories if subject is None else self.card.subjects[subject].stories
        if story not in stories:
            who = "no story" if subject is None else f"{subject} did not hear a story"
            raise DataError(f"{self.root}: {who} {story}", f"there are {some(stories)}")
        return 1 if subject is None else self.card.subjects[subject].stories[story]


def open_shards(root: Place) -> Shards:
    """The shards in a folder, or at a URL, that `prepare` wrote.

    Raises DataError if there are none, the writing was interrupted, another schema wrote them, or their store
    can't be reached.
    """
    check_reachable(root)
    card = root / CARD_NAME
    try:
        text = read_whole(card).decode()
        data = json.loads(text)
        version = data["schema_version"]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        if (root / MARKER_NAME).is_file():
            raise DataError(
                f"{root}: not finished by `wav2bold prepare`", "run the same command again"
            ) from None
        raise DataError(f"{root}: holds no shards (no {CARD_NAME})", "run `wav2bold prepare` first") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{card}: was not written by wav2bold", "run `wav2bold prepare` first") from None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{card}: has schema {version}, this wav2bold reads {SCHEMA_VERSION}",
            "run `wav2bold prepare` again into another folder",
        )
    return Shards(root.resolve() if isinstance(root, Path) else root, DatasetCard.from_json(text))


def in_common(space: str) -> bool:
    """Whether the same voxel or vertex is the same place in all people. space: by its BIDS name."""
    return space.partition("_")[0].lower() not in OWN_SPACES


def mean_bold(repeats: list[Bold]) -> Bold:
    """Mean over recordings of one story, on the volumes that all of them have."""
    first = repeats[0]
    if len(repeats) == 1:
        return first
    matched = match_repeats(repeats)
    total = np.zeros((len(matched[0]), first.y.shape[1]))
    for bold, rows in zip(repeats, matched, strict=True):
        total += bold.y[rows]
    y = (total / len(repeats)).astype(np.float32)
    return Bold(first.t[matched[0]], first.time_s[matched[0]], y)


def match_repeats(repeats: list[Bold]) -> list[NDArray[np.intp]]:
    """Rows of each recording at the times in the story that all recordings have, in order of time."""
    clocks = [np.round(bold.time_s * 1e6).astype(np.int64) for bold in repeats]
    shared = clocks[0]
    for clock in clocks[1:]:
        shared = np.intersect1d(shared, clock, assume_unique=True)
    return [np.flatnonzero(np.isin(clock, shared)) for clock in clocks]


def read_run(path: Place) -> Bold:
    """One recording's shard."""
    table = _read(path, ["t", "time_s", "y"])
    width = table.schema.field("y").type.list_size
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table["y"].chunks]
    whole = values[0] if len(values) == 1 else np.concatenate(values)
    y = whole.reshape(-1, width).astype(np.float32, copy=False)
    return Bold(table["t"].to_numpy(), table["time_s"].to_numpy(), y)


def story_path(root: Place, story: str) -> Place:
    """The file of a story's sound."""
    return root / "stimuli" / f"story={_safe(story)}" / "part-0.parquet"


def run_path(root: Place, subject: str, story: str, repeat: int) -> Place:
    """The file of one recording's BOLD; `repeat` counts from 1."""
    return root / "bold" / f"subject={_safe(subject)}" / f"story={_safe(story)}" / f"run-{repeat}.parquet"


def targets_path(root: Place, subject: str) -> Place:
    """The file that says where a subject's targets are."""
    return root / "targets" / f"subject={_safe(subject)}.parquet"


def content_digest(*parts: Any) -> str:
    """Content address of values that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _safe(name: str) -> str:
    # Readers of hive partitions (pyarrow, DuckDB, Spark) decode percent signs
    return quote(name, safe=" ")


def _read(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """One file's columns; never those that a reader of whole data sets takes from folder names."""
    try:
        source = path if isinstance(path, Path) else pa.BufferReader(read_whole(path))  # a URL: one request
        return pq.ParquetFile(source).read(columns)
    except FileNotFoundError:
        raise DataError(f"{path}: missing", "run `wav2bold prepare` again") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: can't be read ({reason})", "delete it and run `wav2bold prepare` again"
        ) from None
