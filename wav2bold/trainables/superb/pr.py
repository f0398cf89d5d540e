"""Phoneme recognition: which phones were said (LibriSpeech, with a lexicon)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from wav2bold.trainables.superb import librispeech
from wav2bold.trainables.superb.frame_heads import FrameHead
from wav2bold.trainables.superb.librispeech import Spoken, phones_of, read_lexicon
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.transcribing import CtcLesson

PUBLISHED = Published("phone error rate", updates=100_000, every=1_000, higher_is_better=False)
NEEDS = librispeech.NEEDS | {f"{librispeech.FOLDER}/{librispeech.LEXICON}": librispeech.LEXICON_CURE}
PROJECTED = 256


def lesson(data: Path, spoken: Spoken, options: Options) -> CtcLesson:
    """Phones of every utterance, each word's first pronunciation, stress and all, as in the reference.

    Raises DataError for a word that no lexicon has.
    """
    lexicon = read_lexicon(data)
    truth = tuple(phones_of(words, lexicon, spoken.root) for words in spoken.words)
    phones = sorted({phone for said in lexicon.values() for phone in said})
    number = {phone: place for place, phone in enumerate(phones, start=1)}
    updates, every = options.length(PUBLISHED)
    return CtcLesson(
        name="pr",
        tokens=tuple(torch.tensor([number[phone] for phone in said]) for said in truth),
        truth=truth,
        spelled=partial(_spelled, phones),
        head=partial(_head, 1 + len(phones)),
        updates=updates,
        every=every,
    )


def _spelled(phones: Sequence[str], tokens: Sequence[int]) -> list[str]:
    return [phones[token - 1] for token in tokens]


def _head(classes: int, layers: int, features: int) -> FrameHead:
    return FrameHead(layers, features, PROJECTED, classes)
