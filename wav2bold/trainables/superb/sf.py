"""Slot filling: what a command says, and what its words stand for (Audio SNIPS)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from wav2bold.errors import DataError
from wav2bold.trainables.superb.asr import CHARACTERS as LETTERS
from wav2bold.trainables.superb.clips import Clip
from wav2bold.trainables.superb.frame_heads import FrameHead
from wav2bold.trainables.superb.learning import Course
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.slots import type_f1, value_errors
from wav2bold.trainables.superb.transcribing import Beside, CtcLesson, of_like_length
from wav2bold.trainables.superb.utterances import Fold

PUBLISHED = Published("slot type F1", updates=200_000, every=2_000)
BESIDE = {"slot value CER": Beside(value_errors, higher_is_better=False)}
FOLDER, LIST, SLOTS = "SNIPS", "all.iob.snips.txt", "slots.txt"
SOURCE = "https://github.com/s3prl/s3prl/blob/main/s3prl/downstream/docs/superb.md"
CURE = f"get Audio SNIPS, preprocessed, as {SOURCE} says under SF, and unpack it there"
SPEAKERS = {
    "train": ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"),
    "valid": ("Aditi", "Amy", "Geraint", "Nicole"),
    "test": ("Brian", "Emma", "Raveena", "Russell"),
}
"""Of each part, as the reference's snips.yaml has them; other voices in the folders are passed over."""
NEEDS = {f"{FOLDER}/{name}": CURE for name in (LIST, SLOTS, *SPEAKERS)}
CHARACTERS = ("", "<unk>", " ", *LETTERS[1:])
"""The first ends an utterance."""
END, UNKNOWN = 1, 2
PASSED_OVER = "?!.,;-"
PROJECTED = RECURRENT = 1024


def read(data: Path, options: Options) -> tuple[Course, CtcLesson]:
    """Utterances of the parts' speakers that the list tells of, and their characters and slots.

    Test utterances are drawn by sentence: each is read by four voices.
    Raises DataError where there are none, or the list can't be understood.
    """
    root = data / FOLDER
    listed = _listed(root / LIST)
    outside, *slots = (root / SLOTS).read_text(encoding="utf-8").split() or [""]
    if outside != "O":
        raise DataError(f"{root / SLOTS}: begins with {outside[:60]!r}, not with O for no slot", CURE)
    vocabulary = (*CHARACTERS, *(f"{mark}-{slot}" for slot in slots for mark in "BE"))
    number = {token: place for place, token in enumerate(vocabulary, start=1)}
    clips, parts = list[Clip](), list[str]()
    for part, speakers in SPEAKERS.items():
        own = sorted(path for path in (root / part).rglob("*.wav") if path.stem in listed)
        own = [path for path in own if path.stem.startswith(speakers)]
        if not own:
            raise DataError(f"{root / part}: no *.wav of {', '.join(speakers)} that {LIST} tells of", CURE)
        clips += map(Clip, own)
        parts += [part] * len(own)
    tokens = tuple(tokens_of(*listed[clip.path.stem], number, root) for clip in clips)
    fold = Fold(*(np.flatnonzero(np.array(parts) == part) for part in SPEAKERS))
    spelled = partial(words_of, vocabulary)
    updates, every = options.length(PUBLISHED)
    course = Course(
        root=root,
        clips=tuple(clips),
        fold=fold,
        unit=np.array([clips[row].path.stem.partition("-")[2] for row in fold.test], np.str_),
        batches=of_like_length(clips, fold.train, PUBLISHED.batch, options.seed),
    )
    lesson = CtcLesson(
        name="sf",
        tokens=tokens,
        truth=tuple(tuple(spelled(one.tolist())) for one in tokens),
        spelled=spelled,
        head=partial(_head, 1 + len(vocabulary)),
        updates=updates,
        every=every,
        counted=type_f1,
        higher_is_better=True,
        augments=True,
        adapts=True,
    )
    return course, lesson


def _listed(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Words, and the slot of each or O, by utterance. A line: name BOS words EOS, a tab, O slots intent."""
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        said, _, told = line.partition("\t")
        words, slots = said.split()[2:-1], told.split()[1:-1]
        if not words or len(words) != len(slots):
            raise DataError(f"{path}: line {number} has {len(words)} words and {len(slots)} slots", CURE)
        found[said.split()[0]] = words, slots
    return found


def tokens_of(words: Sequence[str], slots: Sequence[str], number: dict[str, int], root: Path) -> torch.Tensor:
    """Numbers of characters, with marks where a slot begins and ends, as the reference has them.

    Words in a row of one slot are one value; a word that is punctuation is passed over, mark and all.
    Raises DataError for a slot that slots.txt lacks.
    """
    tokens = list[str]()
    last = len(words) - 1
    for place, (word, slot) in enumerate(zip(words, slots, strict=True)):
        if word in PASSED_OVER:
            continue
        if slot != "O" and f"B-{slot}" not in number:
            raise DataError(f"{root / SLOTS}: has no slot {slot}, which {LIST} has", CURE)
        if slot != "O" and (place == 0 or slots[place - 1] != slot):
            tokens.append(f"B-{slot}")
        tokens += "AND" if word == "&" else word
        if slot != "O" and (place == last or slots[place + 1] != slot):
            tokens.append(f"E-{slot}")
        tokens.append(" " if place < last else "")
    return torch.tensor([END if token == "" else number.get(token, UNKNOWN) for token in tokens])


def words_of(vocabulary: Sequence[str], tokens: Sequence[int]) -> list[str]:
    """Words and marks that tokens make, as in `slots_of`."""
    told = [vocabulary[token - 1] for token in tokens]
    marked = (
        f"{one} " if one.startswith("B-") else f" {one}" if one.startswith("E-") else one for one in told
    )
    return "".join(marked).split()


def _head(classes: int, layers: int, features: int) -> FrameHead:
    return FrameHead(layers, features, PROJECTED, classes, RECURRENT)
