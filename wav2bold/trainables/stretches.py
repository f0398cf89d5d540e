"""One pass over a stretch of sound for all volumes in it, in place of a pass over each one's window.

A window of n TRs is encoded anew for each of the n volumes that hear a moment; a stretch is encoded once. A
mask of attention hides from every frame what comes later than the TR that it lies in, so that no volume hears
its future that way. Frames see more of the past than a window's: all of the stretch. Two things still look
ahead: the positional convolution, by half its kernel (1.28 s in wav2vec2), and in wav2vec2-base a group norm
over the whole stretch, as it does over windows.
"""

# S stretches, F frames, C convolution channels, D hidden features, n TRs of history, B rows of windows

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows, window_length
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Boundary, Encoder, heard, prefix, suffix
from wav2bold.trainables.families import SpeechModel, convolved
from wav2bold.trainables.noise import SAME_CLOCK_TR
from wav2bold.trainables.stories import ByStory
from wav2bold.trainables.team import ALONE, Team


@dataclass(frozen=True)
class Stretch:
    """A piece of a story, and the rows of windows that end in it with their whole history.

    first: its first sample.  samples: how many.  rows: (B,) in time.  stop: (B,) of each, the sample of the
    stretch that it doesn't hear any more.
    """

    story: str
    first: int
    samples: int
    rows: NDArray[np.int64]
    stop: NDArray[np.int64]


def stretches_of(
    windows: Windows, sounds: dict[str, int], tr_s: float, history: int, seconds: float
) -> list[Stretch]:
    """Stretches that together hold every row once. sounds: samples of each story.

    All are `seconds` long, or as long as their story if that is shorter; the last of a story begins earlier
    and shares sound with the one before. Rows of two scanners' clocks never share one.
    """
    own = window_length(tr_s, history)
    found = []
    for story in dict.fromkeys(windows.story):
        length = min(max(round(seconds * SAMPLE_RATE_HZ), own), sounds[str(story)])
        for recording in _by_clock(np.flatnonzero(windows.story == story), windows.stop, tr_s):
            rows = recording
            while len(rows):
                begin = min(int(windows.stop[rows[0]]) - own, sounds[str(story)] - length)
                stop = windows.stop[rows] - begin
                inside = stop <= length
                found.append(Stretch(str(story), begin, length, rows[inside], stop[inside]))
                rows = rows[~inside]
    return found


def _by_clock(rows: NDArray[np.int64], stop: NDArray[np.int64], tr_s: float) -> Iterator[NDArray[np.int64]]:
    """The rows that are whole TRs apart, together."""
    while len(rows):
        away_tr = (stop[rows] - stop[rows[0]]) / (tr_s * SAMPLE_RATE_HZ)
        same = np.abs(away_tr - np.rint(away_tr)) < SAME_CLOCK_TR
        yield rows[same]
        rows = rows[~same]


def ends_of(encoder: Encoder, frames: int) -> NDArray[np.int64]:
    """(F,) the sample that each frame doesn't hear any more."""
    return np.arange(frames) * encoder.stride + encoder.receptive_field


def tr_of_frame(encoder: Encoder, stretch: Stretch, tr_s: float) -> NDArray[np.int64]:
    """(F,) the TR in which each frame ends, counted from that of the first row, which is 0."""
    ends = ends_of(encoder, encoder.frames(stretch.samples))
    return np.asarray(np.ceil((ends - stretch.stop[0]) / (tr_s * SAMPLE_RATE_HZ) - 1e-6), np.int64)


def mask_of(tr: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(F, F) whether a frame may attend to another: to those of its own TR and of earlier ones."""
    return np.asarray(tr[:, None] >= tr[None, :])


def pool_of(tr: NDArray[np.int64], row_tr: NDArray[np.int64], history: int) -> NDArray[np.float32]:
    """(B, n, F) averages of the frames that end in each TR of each row's history, oldest first.

    tr: (F,) of each frame.  row_tr: (B,) of each row, counted alike.
    """
    wanted = row_tr[:, None] + np.arange(1 - history, 1)
    member = tr[None, None, :] == wanted[:, :, None]
    return np.asarray(member / member.sum(2, keepdims=True), np.float32)


@dataclass(frozen=True)
class StretchedHearing:
    """How windows are heard in stretches of so many seconds: does what `Hearing` does, and stores as it does.

    What lies below the boundary is computed once for each stretch.
    """

    encoder: Encoder
    shards: Shards
    store: ActivationStore
    windows: Windows
    history: int
    boundary: Boundary
    seconds: float

    @cached_property
    def stretches(self) -> list[Stretch]:
        """All of them; every row of the windows is in one."""
        lengths = {story: len(sound) for story, sound in self._sounds.items()}
        return stretches_of(self.windows, lengths, self._tr_s, self.history, self.seconds)

    def blocks(self, _block: int, _random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Every row once: those of each stretch together."""
        return [one.rows for one in self.stretches]

    def most_blocks(self, _block: int) -> tuple[int, int]:
        """How many `blocks` gives, and the most rows in one."""
        return len(self.stretches), max(len(one.rows) for one in self.stretches)

    def together(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The rows cut to pieces that `below` takes: each of one stretch."""
        cuts = np.flatnonzero(np.diff(self._stretch_of[rows])) + 1
        return np.split(rows, cuts)

    def in_order(self) -> NDArray[np.int64]:
        """Every row once, those of a stretch beside each other."""
        return np.concatenate([one.rows for one in self.stretches])

    def divided(self, rows: NDArray[np.int64], shares: int) -> list[NDArray[np.int64]]:
        """The rows cut to so many shares of whole stretches; some may be empty."""
        pieces = self.together(rows)
        cuts = [len(share) for share in np.array_split(np.arange(len(pieces)), shares)]
        ends = np.cumsum([0, *(len(piece) for piece in pieces)])[np.cumsum(cuts)]
        return np.split(rows, ends[:-1])

    def below(self, rows: NDArray[np.int64]) -> Tensor:
        """What enters the suffix for the stretch of these rows: (1, S) audio, (1, F, C) or (1, F, D)."""
        number = int(self._stretch_of[rows[0]])
        if self.boundary.at == "audio":
            return self._audio(self.stretches[number])
        story, place = self._place[number]
        return self._stored[story][place : place + 1].to(self.encoder.device).float()

    def sequences(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        """The first row and the frames of each of these windows' stretches."""
        found = [self.stretches[int(self._stretch_of[part[0]])] for part in self.together(rows)]
        return [(int(one.rows[0]), self.encoder.frames(one.samples)) for one in found]

    def attention(self, rows: NDArray[np.int64]) -> Tensor:
        """(1, 1, F, F) whether a frame of the stretch of these rows may attend to another."""
        return self._mask(self.stretches[int(self._stretch_of[rows[0]])])

    def pooled(self, model: SpeechModel, below: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Head features (B, n * D) of rows of one stretch; with gradient where `model` has it."""
        stretch = self.stretches[int(self._stretch_of[rows[0]])]
        (hidden_BFD,) = suffix(
            self.encoder, model, self.boundary, below, [self.encoder.layers], self._mask(stretch)
        )
        hidden_FD = hidden_BFD[0]
        pool = self._pool(stretch)[torch.from_numpy(np.searchsorted(stretch.rows, rows)).to(below.device)]
        with torch.autocast(below.device.type, enabled=False):  # features vary little beside their mean
            return torch.einsum("bnf,fd->bnd", pool, hidden_FD.float()).flatten(1)

    def features(self, _rows: NDArray[np.int64], upper: Tensor, weights_K: Tensor | None = None) -> Tensor:
        """Head features: what `pooled` gave."""
        assert weights_K is None, "refused before"
        return upper

    @property
    def first_weights(self) -> None:
        """Stretches are read at the encoder's output alone."""

    def frozen_features(self, weights: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """`frozen_pooled`."""
        assert weights is None, "refused before"
        return self.frozen_pooled

    def all_pooled(
        self, model: SpeechModel, weights: NDArray[np.float32] | None = None, team: Team = ALONE
    ) -> NDArray[np.float32]:
        """Head features of every window, (N, n * D). team: who share the work."""
        assert weights is None, "refused before"
        order = self.in_order()
        shares = self.divided(order, team.size)
        with torch.no_grad():
            pieces = self.together(shares[team.rank]) if len(shares[team.rank]) else []
            own = [self.pooled(model, self.below(rows), rows).cpu() for rows in pieces]
        parts = torch.cat(own) if own else torch.empty((0, self._width))
        found = np.empty((len(self.windows), self._width), np.float32)
        found[order] = team.gathered(parts, [len(share) for share in shares]).numpy()
        return found

    def keep(self, story: str) -> None:
        """Have what is frozen of this story computed and stored, if it is among the windows' stories."""
        if story in self.windows.story and self.boundary.at != "audio":
            _ = self._stored[story]

    @cached_property
    def frozen_pooled(self) -> NDArray[np.float32]:
        """Head features of every window with the encoder as it came, (N, n * D), from the store."""

        def compute() -> Iterator[NDArray[np.float32]]:
            yield self.all_pooled(self.encoder.model)

        address = self._address([*self._sounds]) | {"of": "pooled", "history": self.history}
        if self.store.dtype != "float32":
            address["from"] = f"{self.boundary} as {self.store.dtype}"
        return self.store.array(address, (len(self.windows), self._width), compute)

    @cached_property
    def _width(self) -> int:
        """Head features."""
        return self.history * int(self.encoder.model.config.hidden_size)

    @cached_property
    def _stored(self) -> ByStory[Tensor]:
        """The boundary's output for every stretch, by story: (stretches, F, C or D) each."""
        return ByStory(self._stored_of)

    def _stored_of(self, story: str) -> Tensor:
        config = self.encoder.model.config
        width = config.conv_dim[-1] if self.boundary.at == "conv" else config.hidden_size
        some = [one for one in self.stretches if one.story == story]

        def compute() -> Iterator[NDArray[np.float32]]:
            with torch.no_grad():
                for one in some:
                    features = convolved(self.encoder.model, heard(self.encoder, self._audio(one)))
                    yield prefix(self.encoder, self.boundary, features, self._mask(one)).cpu().numpy()

        shape = (len(some), self.encoder.frames(some[0].samples), width)
        return self.store.tensor(self._address([story]) | {"of": str(self.boundary)}, shape, compute)

    def _address(self, stories: list[str]) -> dict[str, object]:
        """What the stretches of stories were made from: encoder, sounds, geometry."""
        hasher = hashlib.blake2b(digest_size=16)
        for one in self.stretches:
            if one.story in stories:
                hasher.update(repr((one.first, one.samples)).encode() + one.stop.tobytes())
        return {
            "encoder": self.encoder.digest,
            "stories": [self.shards.card.stories[story].digest for story in stories],
            "stretches": hasher.hexdigest(),
            "tr_s": self._tr_s,
        }

    @property
    def _tr_s(self) -> float:
        return self.shards.card.tr_s

    @cached_property
    def _stretch_of(self) -> NDArray[np.int64]:
        """(N,) the stretch that each row is in."""
        found = np.empty(len(self.windows), np.int64)
        for number, one in enumerate(self.stretches):
            found[one.rows] = number
        return found

    @cached_property
    def _place(self) -> list[tuple[str, int]]:
        """Of each stretch, its story and its number there."""
        seen: dict[str, int] = {}
        places = []
        for one in self.stretches:
            places.append((one.story, seen.get(one.story, 0)))
            seen[one.story] = places[-1][1] + 1
        return places

    @cached_property
    def _sounds(self) -> dict[str, NDArray[np.float32]]:
        return {str(story): self.shards.audio(str(story)) for story in dict.fromkeys(self.windows.story)}

    def _audio(self, one: Stretch) -> Tensor:
        """(1, S)."""
        samples = self._sounds[one.story][one.first : one.first + one.samples]
        return torch.from_numpy(samples[None].copy()).to(self.encoder.device)

    def _mask(self, one: Stretch) -> Tensor:
        """(1, 1, F, F)."""
        return self._masks(one)[0]

    def _pool(self, one: Stretch) -> Tensor:
        """(B, n, F)."""
        return self._masks(one)[1]

    def _masks(self, one: Stretch) -> tuple[Tensor, Tensor]:
        """Mask and pool of a stretch; those that lie alike share theirs."""
        row_tr = np.rint((one.stop - one.stop[0]) / (self._tr_s * SAMPLE_RATE_HZ)).astype(np.int64)
        key = (one.samples, int(one.stop[0]), row_tr.tobytes())
        if key not in self._made:
            tr = tr_of_frame(self.encoder, one, self._tr_s)
            mask = torch.from_numpy(mask_of(tr))[None, None].to(self.encoder.device)
            pool = torch.from_numpy(pool_of(tr, row_tr, self.history)).to(self.encoder.device)
            self._made[key] = (mask, pool)
        return self._made[key]

    @cached_property
    def _made(self) -> dict[tuple[int, int, bytes], tuple[Tensor, Tensor]]:
        return {}
