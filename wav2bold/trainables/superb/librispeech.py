"""LibriSpeech as published: its utterances and what was said in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.files import check_readable
from wav2bold.errors import DataError
from wav2bold.trainables.superb.clips import Clip
from wav2bold.trainables.superb.utterances import Fold

FOLDER = "LibriSpeech"
PARTS = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}
NEEDS = {
    f"{FOLDER}/{part}": f"unpack https://www.openslr.org/resources/12/{part}.tar.gz there"
    for part in PARTS.values()
}
LEXICON = "librispeech-lexicon.txt"
LEXICON_CURE = f"download https://www.openslr.org/resources/11/{LEXICON} there"


@dataclass(frozen=True)
class Spoken:
    """Utterances with their words. root: folder that clips are named from."""

    root: Path
    clips: tuple[Clip, ...]
    words: tuple[tuple[str, ...], ...]
    fold: Fold

    @property
    def names(self) -> NDArray[np.str_]:
        """Of each utterance."""
        return np.array([clip.path.stem for clip in self.clips], np.str_)


def read_spoken(data: Path) -> Spoken:
    """The utterances that the three parts' transcripts (`*.trans.txt`) name, by name.

    Raises DataError where a part has none, or a line names no sound.
    """
    root = data / FOLDER
    clips, words, parts = list[Clip](), list[tuple[str, ...]](), list[str]()
    for part, folder in PARTS.items():
        told = sorted((root / folder).glob("*/*/*.trans.txt"))
        if not told:
            raise DataError(f"{root / folder}: no transcripts (*.trans.txt)", NEEDS[f"{FOLDER}/{folder}"])
        for path in told:
            for line in path.read_text(encoding="utf-8").splitlines():
                name, *said = line.split()
                clips.append(Clip(path.with_name(f"{name}.flac")))
                words.append(tuple(word.upper() for word in said))
                parts.append(part)
    numbers = (np.flatnonzero(np.array(parts) == part) for part in PARTS)
    return Spoken(root, tuple(clips), tuple(words), Fold(*numbers))


def read_lexicon(data: Path) -> dict[str, tuple[str, ...]]:
    """Phones of each word, its first pronunciation: of the lexicon, and of any `*lexicon*.txt` beside it.

    Raises DataError if there is none.
    """
    check_readable(data / FOLDER / LEXICON, LEXICON_CURE)
    beside = sorted((data / FOLDER).glob("*lexicon*.txt"), key=lambda path: path.name != LEXICON)
    found: dict[str, tuple[str, ...]] = {}
    for path in beside:
        for line in path.read_text(encoding="utf-8").splitlines():
            word, *phones = line.split() or [""]
            if phones:
                found.setdefault(word.upper(), tuple(phones))
    return found


def phones_of(words: Sequence[str], lexicon: Mapping[str, tuple[str, ...]], root: Path) -> tuple[str, ...]:
    """What the words sound like. Raises DataError for a word that no lexicon has."""
    for word in words:
        if word not in lexicon:
            raise DataError(
                f"{root / LEXICON}: has no word {word}",
                "add it in a file of your own, such as my-lexicon.txt",
            )
    return tuple(phone for word in words for phone in lexicon[word])
