"""All hidden states of a frozen encoder, and their means over time, computed once."""

# B clips, S samples, L hidden states, F frames, D features, N all clips

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.errors import DataError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, heard
from wav2bold.trainables.families import convolved, embedded, hidden_states
from wav2bold.trainables.superb.clips import Clip, digest_of, in_equal_lengths

SAMPLES_AT_ONCE = 60 * SAMPLE_RATE_HZ
CLIPS_IN_FILE = 2048
"""Of which a stored array holds the means: what a killed run has to hear again, at most."""


def all_states(encoder: Encoder, sounds_BS: NDArray[np.float32]) -> Tensor:
    """Every hidden state of sounds of one length, (L, B, F, D): each layer's input, and the output."""
    with torch.no_grad():
        audio_BS = heard(encoder, torch.from_numpy(sounds_BS).to(encoder.device))
        first = embedded(encoder.model, convolved(encoder.model, audio_BS))
        return torch.stack(hidden_states(encoder.model, first, 0, range(encoder.layers + 1)))


@dataclass(frozen=True)
class Pooled:
    """Of each of N clips, each hidden state's mean over frames, and the mean length of a frame's vector.

    parts: mapped arrays (clips, L, D + 1); the last feature is that length.
    """

    parts: tuple[NDArray[np.float32], ...]

    def means(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of clips by number, (B, L, D)."""
        return np.stack([self._row(row)[:, :-1] for row in rows])

    def lengths(self) -> NDArray[np.float64]:
        """Mean length of a hidden state's vectors over all clips, (L,)."""
        lengths = np.concatenate([part[:, :, -1] for part in self.parts])
        return np.asarray(lengths.mean(0, dtype=np.float64))

    def _row(self, row: int) -> NDArray[np.float32]:
        return np.asarray(self.parts[row // CLIPS_IN_FILE][row % CLIPS_IN_FILE])


def pooled(encoder: Encoder, store: ActivationStore, clips: Sequence[Clip], root: Path) -> Pooled:
    """Means of all clips, from the store as far as it has them. root: folder that clips are named from.

    Raises DataError if a clip isn't there, or is too short to give a frame.
    """
    width = int(encoder.model.config.hidden_size) + 1
    parts = []
    for first in range(0, len(clips), CLIPS_IN_FILE):
        part = clips[first : first + CLIPS_IN_FILE]
        address = {"of": "superb means", "encoder": encoder.digest, "clips": digest_of(part, root)}
        shape = (len(part), encoder.layers + 1, width)
        parts.append(store.array(address, shape, partial(_means, encoder, part)))
    return Pooled(tuple(parts))


def _means(encoder: Encoder, clips: Sequence[Clip]) -> Iterator[NDArray[np.float32]]:
    """One array of all means, in the clips' order."""
    found: list[NDArray[np.float32] | None] = [None] * len(clips)
    for numbers, sounds_BS in in_equal_lengths(clips, SAMPLES_AT_ONCE):
        check_frames(encoder, clips[numbers[0]], sounds_BS.shape[1])
        states_LBFD = all_states(encoder, sounds_BS)
        lengths_LB = states_LBFD.norm(dim=3).mean(2)
        means_LBD = torch.cat([states_LBFD.mean(2), lengths_LB[..., None]], dim=2).cpu().numpy()
        for place, number in enumerate(numbers):
            found[number] = means_LBD[:, place]
    yield np.stack([one for one in found if one is not None])


def check_frames(encoder: Encoder, clip: Clip, samples: int) -> None:
    """Raise DataError unless so many samples give the encoder a frame."""
    if encoder.frames(samples) < 1:
        raise DataError(
            f"{clip.path}: {samples} samples, a frame takes {encoder.receptive_field}",
            "unpack the data set there again",
        )
