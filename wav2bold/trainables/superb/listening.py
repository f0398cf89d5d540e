"""Hidden states of utterances, frame by frame, for heads that need every one."""

# L hidden states, F frames, D features

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.superb.clips import Clip, digest_of, samples_of, sound_of
from wav2bold.trainables.superb.hidden import all_states, check_frames

BYTES_AT_ONCE = BYTES_KEPT = BYTES_IN_FILE = 10**9
"""Of hidden states that heads see together: 25,000 frames of the base size, a batch of 32 at 15 s.

A stored file holds as many, and each that is mapped is an open file.
"""
FRAME_BYTES = 4
"""Of a feature. In two bytes twice as much would fit, but what is stored would differ from what is heard."""


@dataclass(frozen=True)
class Shelf:
    """Where an encoder's frames are kept on disk. root: folder that clips are named from.

    Only a store that is told how much it may hold is one: frames fill any disk.
    """

    store: ActivationStore
    root: Path


class Listener:
    """An encoder that hears utterances, each by itself and so without padding, and remembers some.

    shelf: those that it has room for are stored there, and then no encoder of this digest hears them again.
    Of the others those heard first are remembered, as far as BYTES_KEPT goes: of a small data set all.
    """

    def __init__(self, encoder: Encoder, clips: Sequence[Clip], shelf: Shelf | None = None) -> None:
        self.encoder, self._clips = encoder, clips
        self._kept: dict[int, Tensor] = {}
        self._room = BYTES_KEPT
        self._files: dict[int, _File] = {}
        if shelf is not None and shelf.store.is_bounded:
            self._files = {row: file for file in _files(encoder, clips, shelf) for row in file.frames}

    def __call__(self, rows: NDArray[np.int64]) -> Iterator[tuple[list[int], list[Tensor]]]:
        """Hidden states of clips by number, as many together as there is room for, the longest first.

        Places in `rows`, and (L, F, D) of each, which nothing may write into.
        """
        places, states, size = list[int](), list[Tensor](), 0
        lengths = [samples_of(self._clips[int(row)]) for row in rows]
        for place in np.argsort(lengths, kind="stable")[::-1].tolist():
            one = self._heard(int(rows[place]))
            if places and size + one.nbytes > BYTES_AT_ONCE:
                yield places, states
                places, states, size = [], [], 0
            places.append(place)
            states.append(one)
            size += one.nbytes
        if places:
            yield places, states

    def _heard(self, row: int) -> Tensor:
        found = self._kept.get(row)
        if found is None and row in self._files:
            found = self._files[row].states(row)
        if found is not None:
            return found
        states_LFD = _states(self.encoder, self._clips[row])
        if states_LFD.nbytes <= self._room:
            self._room -= states_LFD.nbytes
            self._kept[row] = states_LFD
        return states_LFD


class _File:
    """Some utterances' hidden states on a shelf, heard when the first of them is asked for.

    frames: of each utterance by number, as they follow each other.
    """

    def __init__(
        self, encoder: Encoder, clips: Sequence[Clip], shelf: Shelf, frames: Mapping[int, int]
    ) -> None:
        self._encoder, self._clips, self._shelf, self.frames = encoder, clips, shelf, frames
        self._layers = encoder.layers + 1
        ends = self._layers * np.cumsum(list(frames.values()))
        self._first = dict(zip(frames, [0, *ends.tolist()], strict=False))
        self._vectors = int(ends[-1])

    @cached_property
    def _mapped(self) -> Tensor | None:
        """(vectors, D) of all utterances; None where there is no room."""
        clips = [self._clips[row] for row in self.frames]
        address = {
            "of": "superb frames",
            "encoder": self._encoder.digest,
            "clips": digest_of(clips, self._shelf.root),
        }
        width = int(self._encoder.model.config.hidden_size)
        rows = (_states(self._encoder, clip).flatten(0, 1).cpu().numpy() for clip in clips)
        return self._shelf.store.tensor_if_room(address, (self._vectors, width), lambda: rows)

    def states(self, row: int) -> Tensor | None:
        """(L, F, D) of an utterance, on the mapped memory."""
        if self._mapped is None:
            return None
        first, frames = self._first[row], self.frames[row]
        vectors: Tensor = self._mapped[first : first + self._layers * frames]
        states: Tensor = vectors.unflatten(0, (self._layers, frames))
        return states.to(self._encoder.device)


def _files(encoder: Encoder, clips: Sequence[Clip], shelf: Shelf) -> Iterator[_File]:
    """All clips in their order, as many in a file as BYTES_IN_FILE allows, or one."""
    frame_bytes = FRAME_BYTES * (encoder.layers + 1) * int(encoder.model.config.hidden_size)
    frames = dict[int, int]()
    for row, clip in enumerate(clips):
        own = max(encoder.frames(samples_of(clip)), 0)
        if frames and (sum(frames.values()) + own) * frame_bytes > BYTES_IN_FILE:
            yield _File(encoder, clips, shelf, frames)
            frames = {}
        frames[row] = own
    if frames:
        yield _File(encoder, clips, shelf, frames)


def _states(encoder: Encoder, clip: Clip) -> Tensor:
    """(L, F, D) of a clip, heard now. Raises DataError if it is too short to give a frame."""
    sound = sound_of(clip)
    check_frames(encoder, clip, len(sound))
    return all_states(encoder, sound[None])[:, 0]
