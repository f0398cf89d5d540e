"""What sd learns: which of two speakers speaks in each frame, whatever they are called."""

# B chunks, L hidden states, F frames, D features

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.trainables.superb.diarization_error import error_s, smoothed, speech_s, times_of
from wav2bold.trainables.superb.frame_heads import weighed
from wav2bold.trainables.superb.kaldi import SPEAKERS, Recording
from wav2bold.trainables.superb.learning import Judged, Rows

FRAME_SAMPLES = 320
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
WIDTH = 512
THRESHOLDS, MEDIANS = (0.3, 0.4, 0.5, 0.6, 0.7), (1, 11)
"""To choose from, as in the reference: from which probability on someone speaks, and frames of a median."""


class Diarizer(nn.Module):
    """The featurizer's weighted sum, an LSTM, and a logit of each speaker in each frame."""

    def __init__(self, layers: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Parameter(torch.zeros(layers))
        self.recurrent = nn.LSTM(features, WIDTH, batch_first=True)
        self.classify = nn.Linear(WIDTH, SPEAKERS)

    def forward(self, states: Sequence[Tensor], frames: Sequence[int]) -> list[Tensor]:
        """Logits (F, 2) of chunks (L, F, D), with as many frames each as is said.

        An encoder gives a frame less than labels have: the last one is repeated, as in the reference.
        """
        summed = [_of_length(one, own) for one, own in zip(weighed(self.layers, states), frames, strict=True)]
        logits = self.classify(self.recurrent(pad_sequence(summed, batch_first=True))[0])
        return [one[:own] for one, own in zip(logits, frames, strict=True)]


def _of_length(one_FD: Tensor, frames: int) -> Tensor:
    return torch.cat([one_FD, one_FD[-1:].expand(max(frames - len(one_FD), 0), -1)])[:frames]


def pit_loss(logits_F2: Tensor, labels_F2: Tensor) -> Tensor:
    """Sum over frames of the speakers' mean cross-entropy, in the order of speakers that makes it least."""
    losses = [
        nn.functional.binary_cross_entropy_with_logits(logits_F2, labels_F2[:, list(order)], reduction="sum")
        for order in permutations(range(SPEAKERS))
    ]
    return torch.stack(losses).min() / SPEAKERS


@dataclass(frozen=True)
class DiarizingLesson:
    """A `Lesson` of who speaks. recordings: all.  recording: number of every chunk's.

    labels: (F, 2) of every chunk.
    """

    recordings: tuple[Recording, ...]
    recording: NDArray[np.int64]
    labels: tuple[Tensor, ...]
    updates: int
    every: int
    name: str = "sd"
    max_norm: float = 1.0

    @property
    def truth(self) -> tuple[object, ...]:
        return tuple((one.name, one.turns) for one in self.recordings)

    @property
    def head(self) -> Callable[[int, int], nn.Module]:
        return Diarizer

    def optimiser(self, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=rate)

    def size(self, rows: Rows) -> float:
        return sum(self._frames(rows))

    def prepared(self, states: Sequence[Tensor]) -> Sequence[Tensor]:
        return states

    def loss(self, head: nn.Module, states: Sequence[Tensor], rows: Rows) -> Tensor:
        logits = head(states, self._frames(rows))
        return torch.stack(
            [pit_loss(one, self.labels[row].to(one)) for one, row in zip(logits, rows, strict=True)]
        ).sum()

    def told(self, head: nn.Module, states: Sequence[Tensor], rows: Rows) -> list[NDArray[np.float32]]:
        """Probabilities, (F, 2) of each chunk."""
        return [one.sigmoid().cpu().numpy() for one in head(states, self._frames(rows))]

    def judged(
        self, told: Sequence[NDArray[np.float32]], rows: Rows, setting: tuple[float, ...] | None
    ) -> Judged:
        """Seconds of error by seconds of speech. setting: threshold and width of the median filter.

        Chunks of a recording follow one another in `rows`.
        """
        numbers, first = np.unique(self.recording[rows], return_index=True)
        whole = [np.concatenate(told[a:b]) for a, b in zip(first, [*first[1:], len(told)], strict=True)]
        times = [
            times_of(self.recordings[number].turns, len(one), FRAME_S)
            for number, one in zip(numbers, whole, strict=True)
        ]
        speech = np.array(list(map(speech_s, times)))
        found = []
        for threshold, median in [setting] if setting else product(THRESHOLDS, MEDIANS):
            errors = [
                error_s(smoothed(one > threshold, int(median)), own)
                for one, own in zip(whole, times, strict=True)
            ]
            rate = float(np.sum(errors) / speech.sum())
            found.append(Judged(rate, np.array(errors), speech, (threshold, median)))
        return min(found, key=lambda one: one.score)

    def _frames(self, rows: Rows) -> list[int]:
        return [len(self.labels[row]) for row in rows]
