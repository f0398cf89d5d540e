"""Query by example: which recordings does a spoken query occur in (QUESST 2014)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.files import check_readable
from wav2bold.errors import DataError
from wav2bold.trainables.superb.clips import Clip
from wav2bold.trainables.superb.protocol import Published

PUBLISHED = Published("MTWV", updates=0, every=0, statistic="mtwv")
FOLDER = "quesst14Database"
CURE = "unpack https://speech.fit.vutbr.cz/files/quesst14Database.tgz there"
SETS = ("dev", "eval")
LANGUAGE = "nnenglish"
"""The reference searches the English recordings (by non-native speakers) only, of six languages."""
GAIN = 10 ** (-3 / 20)
"""The reference plays all sound 3 dB softer."""
NEEDS = {
    f"{FOLDER}/{name}": CURE
    for name in (
        "scoring/language_key_utterances.lst",
        *(f"scoring/language_key_{part}.lst" for part in SETS),
        *(f"scoring/groundtruth_quesst14_{part}/quesst14_{part}.rttm" for part in SETS),
    )
}


@dataclass(frozen=True)
class Queries:
    """A set of queries. occurs: (queries, documents) whether each query is said in each document."""

    clips: tuple[Clip, ...]
    occurs: NDArray[np.bool_]

    @property
    def names(self) -> tuple[str, ...]:
        """Of each query."""
        return tuple(clip.path.stem for clip in self.clips)


@dataclass(frozen=True)
class Search:
    """root: folder that clips are named from.  documents: recordings.  dev, test: queries for them."""

    root: Path
    documents: tuple[Clip, ...]
    dev: Queries
    test: Queries

    @property
    def clips(self) -> tuple[Clip, ...]:
        """Of all queries, and the documents."""
        return (*self.dev.clips, *self.test.clips, *self.documents)


def read(data: Path) -> Search:
    """English queries and documents of the data set's lists. Raises DataError where they aren't there."""
    root = data / FOLDER
    documents = _listed(root, "utterances")
    place = {clip.path.stem: number for number, clip in enumerate(documents)}
    sets = []
    for part in SETS:
        clips = _listed(root, part)
        row = {clip.path.stem: number for number, clip in enumerate(clips)}
        occurs = np.zeros((len(clips), len(documents)), bool)
        for query, document in _told(root, part):
            if query in row and document in place:
                occurs[row[query], place[document]] = True
        if not occurs.any():
            raise DataError(f"{root}: none of the {part} set's queries is in any recording", CURE)
        sets.append(Queries(clips, occurs))
    return Search(root, documents, *sets)


def _listed(root: Path, name: str) -> tuple[Clip, ...]:
    """The English clips of a list; its paths begin with the data set's own folder."""
    path = root / "scoring" / f"language_key_{name}.lst"
    clips = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match line.split():
            case [sound, language]:
                if language == LANGUAGE:
                    clips.append(Clip(root / sound.partition("/")[2], gain=GAIN))
            case []:
                pass
            case _:
                raise DataError(f"{path}: line {number} is no path and language: {line[:60]}", CURE)
    if not clips:
        raise DataError(f"{path}: names no sound in {LANGUAGE}", CURE)
    for clip in clips:
        check_readable(clip.path, CURE)
    return tuple(clips)


def _told(root: Path, part: str) -> list[tuple[str, str]]:
    """(query, document) wherever one is said in the other, by the ground truth (NIST's RTTM)."""
    path = root / "scoring" / f"groundtruth_quesst14_{part}" / f"quesst14_{part}.rttm"
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row[5], row[1]) for row in rows if len(row) > 5 and row[0] == "LEXEME"]
