"""Speech recognition: which words were said, by characters (LibriSpeech, no language model)."""

from collections.abc import Sequence
from pathlib import Path

import torch

from wav2bold.errors import DataError
from wav2bold.trainables.superb import librispeech
from wav2bold.trainables.superb.frame_heads import FrameHead
from wav2bold.trainables.superb.librispeech import Spoken
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.transcribing import CtcLesson

PUBLISHED = Published("word error rate", updates=200_000, every=2_000, higher_is_better=False)
NEEDS = librispeech.NEEDS
CHARACTERS = "|ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
"""A bar ends each word."""
PROJECTED = RECURRENT = 1024


def lesson(_data: Path, spoken: Spoken, options: Options) -> CtcLesson:
    """Characters of every utterance. Raises DataError for one that is none of CHARACTERS."""
    updates, every = options.length(PUBLISHED)
    return CtcLesson(
        name="asr",
        tokens=tuple(map(tokens_of, spoken.words)),
        truth=spoken.words,
        spelled=words_of,
        head=_head,
        updates=updates,
        every=every,
        augments=True,
    )


def tokens_of(words: Sequence[str]) -> torch.Tensor:
    """Numbers of the words' characters, from 1 on."""
    text = "".join(f"{word}|" for word in words)
    for sign in text:
        if sign not in CHARACTERS:
            raise DataError(
                f"asr: {' '.join(words)[:60]} has {sign!r}",
                f"transcripts have letters, space and {CHARACTERS[-1]}",
            )
    return torch.tensor([CHARACTERS.index(sign) + 1 for sign in text], dtype=torch.long)


def words_of(tokens: Sequence[int]) -> list[str]:
    """The words that characters make."""
    return "".join(CHARACTERS[token - 1] for token in tokens).replace("|", " ").split()


def _head(layers: int, features: int) -> FrameHead:
    return FrameHead(layers, features, PROJECTED, 1 + len(CHARACTERS), RECURRENT)
