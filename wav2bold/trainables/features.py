"""From windows of audio to what the head reads; the frozen part comes from the activation store."""

# B windows, S samples, F frames, C convolution channels, D hidden features, R rows of pooling, P read

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import HiddenStates, Pooling
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows, window_length
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.batches import blocks_of, most_blocks
from wav2bold.trainables.encoder import Boundary, Encoder, heard, prefix, suffix
from wav2bold.trainables.families import SpeechModel, convolved
from wav2bold.trainables.pooling import pooling
from wav2bold.trainables.reading import states_read
from wav2bold.trainables.stories import ByStory
from wav2bold.trainables.team import ALONE, Team

WINDOWS_AT_ONCE = 16  # without gradient
FRAMES_AT_ONCE = 1500  # 30 s of a story
RESIDENT_SHARE = 0.4
"""Of a GPU's free memory, at most, for what is frozen: training and validation each keep theirs there."""


@dataclass(frozen=True)
class Hearing:
    """How windows are heard: with which encoder and history, where its frozen part ends, what the head reads.

    Whatever lies below the boundary is computed once for each story and read from the store by
    every subject, epoch and trial. Where the convolutions are local, they are computed once for a
    whole story and windows of every history are slices of that.
    """

    encoder: Encoder
    shards: Shards
    store: ActivationStore
    windows: Windows
    history: int
    boundary: Boundary
    pooling: Pooling = "tr"
    layers: HiddenStates = None

    @cached_property
    def samples(self) -> int:
        """Samples in a window."""
        return window_length(self.shards.card.tr_s, self.history)

    @cached_property
    def frames(self) -> int:
        """Frames in a window."""
        return self.encoder.frames(self.samples)

    @cached_property
    def pool(self) -> Tensor:
        """(R, F) what a window's frames are multiplied by."""
        return self._tensor(
            pooling(self.encoder, self.frames, self.history, self.shards.card.tr_s, self.pooling)
        )

    def below(self, rows: NDArray[np.int64]) -> Tensor:
        """What enters the suffix for these windows: (B, S) audio, (B, F, C) or (B, F, D)."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(self.encoder.device)].float()
        if self.boundary.at == "audio":
            return self._audio(rows)
        if self.boundary.at == "conv" and self._slides:
            return self._convolved(rows)
        return self._gathered(
            self._stored[story][row - self._first_row[story]]
            for row, story in zip(rows, self.windows.story[rows], strict=True)
        )

    def blocks(self, block: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Every row once, in blocks of so many consecutive ones, cut anew each time."""
        return blocks_of(self.windows.story, block, random)

    def most_blocks(self, block: int) -> tuple[int, int]:
        """How many `blocks` can give, and of how many rows."""
        return most_blocks(self.windows.story, block), block

    def in_order(self) -> NDArray[np.int64]:
        """Every row once, neighbours beside each other."""
        return np.arange(len(self.windows))

    def together(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The rows cut to pieces that `below` takes: any go together."""
        return [rows]

    def divided(self, rows: NDArray[np.int64], shares: int) -> list[NDArray[np.int64]]:
        """The rows cut to so many shares that take equally long, as far as that can be; some may be empty."""
        return np.array_split(rows, shares)

    def sequences(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        """The first row and the frames of each sequence that goes through the encoder for these windows."""
        return [(int(row), self.frames) for row in rows]

    def attention(self, _rows: NDArray[np.int64]) -> None:
        """Which frames attend to which: in a window, all to all."""

    @cached_property
    def states(self) -> tuple[int, ...]:
        """Numbers of the K hidden states that are read."""
        return states_read(self.encoder, self.layers)

    @property
    def first_weights(self) -> NDArray[np.float32] | None:
        """(K,) weights of the hidden states before any training; None where they aren't summed."""
        count = len(self.states)
        return np.full(count, 1 / count, np.float32) if self.layers == "weighted" else None

    def pooled(self, model: SpeechModel, below: Tensor, _rows: NDArray[np.int64] | None = None) -> Tensor:
        """Hidden states from the boundary up, pooled, side by side; with gradient where `model` has it."""
        upper = suffix(self.encoder, model, self.boundary, below, self.states[self._lower :])
        return torch.cat([self._pool(hidden_BFD) for hidden_BFD in upper], dim=1)

    def features(self, rows: NDArray[np.int64], upper: Tensor, weights_K: Tensor | None = None) -> Tensor:
        """Head features (B, P): what `pooled` gave of these windows, with the store's hidden states below it.

        weights_K: of the hidden states, where they are summed.
        """
        assert (weights_K is None) == (self.layers != "weighted")
        if self._lower:
            width = self._width * self._lower
            lower = np.stack(
                [
                    self._frozen[story][row - self._first_row[story], :width]
                    for row, story in zip(rows, self.windows.story[rows], strict=True)
                ]
            )
            upper = torch.cat([self._tensor(lower), upper], dim=1)
        return upper if weights_K is None else weights_K @ upper.unflatten(1, (len(weights_K), -1))

    def all_pooled(
        self, model: SpeechModel, weights: NDArray[np.float32] | None = None, team: Team = ALONE
    ) -> NDArray[np.float32]:
        """Head features of every window, (N, P). weights: (K,) as for `features`.  team: who share it."""
        weights_K = None if weights is None else self._tensor(weights)

        def found(rows: NDArray[np.int64]) -> Tensor:
            return self.features(rows, self.pooled(model, self.below(rows)), weights_K).cpu()

        with torch.no_grad():
            shares = self.divided(self.in_order(), team.size)
            own = [found(rows) for rows in _batches(shares[team.rank], WINDOWS_AT_ONCE)]
            width = self._width * (1 if weights is not None else len(self.states))
            parts = torch.cat(own) if own else torch.empty((0, width))
            return team.gathered(parts, [len(share) for share in shares]).numpy()

    def keep(self, story: str) -> None:
        """Have what is frozen of this story computed and stored, if it is among the windows' stories."""
        if story in self._stories:
            _ = self._frozen[story]

    @cached_property
    def frozen_pooled(self) -> NDArray[np.float32]:
        """Head features of every window with the encoder as it came, (N, P), from the store."""
        return self.frozen_features(self.first_weights)

    def frozen_state(self, number: int) -> NDArray[np.float32]:
        """One of the hidden states read, of every window: (N, width); the others stay on disk."""
        first = self.states.index(number) * self._width
        return np.concatenate(
            [self._frozen[story][:, first : first + self._width] for story in self._stories]
        )

    def frozen_features(self, weights: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """The same with any weights (K,) of the hidden states."""
        stories = [self._frozen[story] for story in self._stories]
        if weights is None:
            return np.concatenate(stories)
        return np.concatenate([weights @ one.reshape(len(one), len(weights), -1) for one in stories])

    @cached_property
    def _width(self) -> int:
        """Features of one hidden state."""
        return len(self.pool) * int(self.encoder.model.config.hidden_size)

    @cached_property
    def _lower(self) -> int:
        """How many of the hidden states read lie below the boundary: they never change."""
        return sum(self.boundary.at == "layer" and number < self.boundary.layer for number in self.states)

    @cached_property
    def _frozen(self) -> ByStory[NDArray[np.float32]]:
        """The pretrained encoder's hidden states, pooled, side by side, by story: (windows, K * width)."""
        return ByStory(self._frozen_of)

    def _frozen_of(self, story: str) -> NDArray[np.float32]:
        rows = self._rows_of(story)

        def compute() -> Iterator[NDArray[np.float32]]:
            with torch.no_grad():
                for batch in _batches(rows, WINDOWS_AT_ONCE):
                    states = [self._pool(hidden_BFD) for hidden_BFD in self._frozen_states(batch)]
                    yield torch.cat(states, dim=1).cpu().numpy()

        address = self._address(story) | {
            "of": "pooled",
            "history": self.history,
            "pooling": self.pooling,
            "states": self.states,
        }
        if self.store.dtype != "float32":  # then they depend on what was rounded on the way
            address["from"] = f"{self.boundary} as {self.store.dtype}"
        return self.store.array(address, (len(rows), len(self.states) * self._width), compute)

    @cached_property
    def _stored(self) -> ByStory[Tensor]:
        """The boundary's output for every window, by story: (windows, F, C or D) each."""
        return ByStory(self._stored_of)

    def _stored_of(self, story: str) -> Tensor:
        config = self.encoder.model.config
        width = config.conv_dim[-1] if self.boundary.at == "conv" else config.hidden_size
        rows = self._rows_of(story)

        def compute() -> Iterator[NDArray[np.float32]]:
            with torch.no_grad():
                for batch in _batches(rows, WINDOWS_AT_ONCE):
                    yield prefix(self.encoder, self.boundary, self._convolved(batch)).cpu().numpy()

        address = self._address(story) | {"of": str(self.boundary)}
        return self.store.tensor(address, (len(rows), self.frames, width), compute)

    @cached_property
    def _resident(self) -> Tensor | None:
        """What enters the suffix for all windows, on the GPU if there is one with room to spare for it.

        Copying windows there, step by step, takes longer than a step.
        """
        device = self.encoder.device
        if device.type != "cuda" or self.boundary.at == "audio" or self._slides:
            return None
        stored = [self._stored[story] for story in self._stories]
        free, _ = torch.cuda.mem_get_info(device)
        if sum(one.nbytes for one in stored) > RESIDENT_SHARE * free:
            return None
        return torch.cat([one.to(device) for one in stored])

    @cached_property
    def _slides(self) -> bool:
        """Whether every window's frames are frames of the whole story."""
        start = self.windows.stop - self.samples
        return self.encoder.convolution_is_local and not (start % self.encoder.stride).any()

    @cached_property
    def _story_frames(self) -> ByStory[Tensor]:
        """The convolutions' output for whole stories: (frames, C) each."""
        return ByStory(self._story_frames_of)

    def _story_frames_of(self, story: str) -> Tensor:
        encoder, audio = self.encoder, self._sounds[story]
        frames = encoder.frames(len(audio))

        def compute() -> Iterator[NDArray[np.float32]]:
            with torch.no_grad():
                for first in range(0, frames, FRAMES_AT_ONCE):
                    last = min(first + FRAMES_AT_ONCE, frames)
                    stop = (last - 1) * encoder.stride + encoder.receptive_field
                    piece = self._tensor(audio[None, first * encoder.stride : stop].copy())
                    yield convolved(encoder.model, piece)[0].cpu().numpy()

        address = {
            "encoder": encoder.digest,
            "story": self.shards.card.stories[story].digest,
            "of": "conv of the whole story",
        }
        return self.store.tensor(address, (frames, encoder.model.config.conv_dim[-1]), compute)

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        """The array where the encoder is."""
        return torch.from_numpy(array).to(self.encoder.device)

    def _gathered(self, stored: Iterable[Tensor]) -> Tensor:
        """Windows of the store (B, ...), as float32 where the encoder is."""
        return torch.stack(list(stored)).to(self.encoder.device).float()

    def _pool(self, hidden_BFD: Tensor) -> Tensor:
        """Frames pooled, (B, P)."""
        with torch.autocast(hidden_BFD.device.type, enabled=False):  # features vary little beside their mean
            return torch.einsum("rf,bfd->brd", self.pool, hidden_BFD.float()).flatten(1)

    def _frozen_states(self, rows: NDArray[np.int64]) -> list[Tensor]:
        """The pretrained encoder's (B, F, D) each; by way of the store where stage 2 needs that too."""
        encoder, conv = self.encoder, Boundary("conv")
        if self.boundary == Boundary("layer", self.states[-1]):
            return suffix(encoder, encoder.model, conv, self._convolved(rows), self.states)
        upper = suffix(encoder, encoder.model, self.boundary, self.below(rows), self.states[self._lower :])
        if not self._lower:
            return upper
        return suffix(encoder, encoder.model, conv, self._convolved(rows), self.states[: self._lower]) + upper

    @cached_property
    def _stories(self) -> tuple[str, ...]:
        """In the order of the windows."""
        return tuple(str(story) for story in dict.fromkeys(self.windows.story))

    @cached_property
    def _sounds(self) -> ByStory[NDArray[np.float32]]:
        """(samples,) of every story."""
        return ByStory(self.shards.audio)

    def _audio(self, rows: NDArray[np.int64]) -> Tensor:
        """Audio windows (B, S)."""
        return self._tensor(
            np.stack(
                [
                    self._sounds[story][stop - self.samples : stop]
                    for story, stop in zip(self.windows.story[rows], self.windows.stop[rows], strict=True)
                ]
            )
        )

    def _convolved(self, rows: NDArray[np.int64]) -> Tensor:
        """The convolutions' output for these windows, (B, F, C)."""
        if not self._slides:
            return convolved(self.encoder.model, heard(self.encoder, self._audio(rows)))
        first = (self.windows.stop[rows] - self.samples) // self.encoder.stride
        return self._gathered(
            self._story_frames[story][frame : frame + self.frames]
            for story, frame in zip(self.windows.story[rows], first, strict=True)
        )

    @cached_property
    def _first_row(self) -> dict[str, int]:
        """Where each story's windows begin; they lie together."""
        stories, first = np.unique(self.windows.story, return_index=True)
        return {str(story): int(row) for story, row in zip(stories, first, strict=True)}

    def _rows_of(self, story: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.windows.story == story)

    def _address(self, story: str) -> dict[str, object]:
        """What the windows of a story were made from: encoder, sound, geometry."""
        stops = self.windows.stop[self._rows_of(story)]
        return {
            "encoder": self.encoder.digest,
            "story": self.shards.card.stories[story].digest,
            "stops": hashlib.blake2b(stops.tobytes(), digest_size=16).hexdigest(),
            "samples": self.samples,
        }


def _batches(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]
