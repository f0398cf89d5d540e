"""What pr and asr learn: tokens of what was said, by CTC."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from wav2bold.trainables.superb.clips import Clip, samples_of
from wav2bold.trainables.superb.draws import Buckets
from wav2bold.trainables.superb.edits import edits
from wav2bold.trainables.superb.frame_heads import FrameHead, augmented, ctc_loss, told_tokens
from wav2bold.trainables.superb.learning import Course, Judged, Rows
from wav2bold.trainables.superb.librispeech import Spoken

Counted = Callable[[Sequence[str], Sequence[str]], tuple[float, float]]
"""Part and whole, as in `Score`, of what was told in place of the truth."""


@dataclass(frozen=True)
class Beside:
    """Another metric than that which chooses, of the same that was told."""

    counted: Counted
    higher_is_better: bool


def wrong(truth: Sequence[str], told: Sequence[str]) -> tuple[float, float]:
    """Wrong words or phones, and true ones."""
    return edits(truth, told), len(truth)


@dataclass(frozen=True)
class CtcLesson:
    """A `Lesson` of tokens. name: of the task.

    tokens: of every utterance, from 1 on.  truth: what is counted of every utterance, words or phones.
    spelled: told tokens as such words or phones.  head: a new one, of so many hidden states and features.
    updates, every: as in `Plan`.  counted: the metric of one utterance.  higher_is_better: of that metric.
    augments, adapts: whether SpecAugment hides parts from heads in training, and as in `augmented`.
    """

    name: str
    tokens: tuple[Tensor, ...]
    truth: tuple[tuple[str, ...], ...]
    spelled: Callable[[Sequence[int]], list[str]]
    head: Callable[[int, int], FrameHead]
    updates: int
    every: int
    max_norm: float = 1.0
    counted: Counted = wrong
    higher_is_better: bool = False
    augments: bool = False
    adapts: bool = False

    def optimiser(self, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=rate)

    def size(self, rows: Rows) -> float:
        return len(rows)

    def prepared(self, states: Sequence[Tensor]) -> Sequence[Tensor]:
        return [augmented(one, self.adapts) for one in states] if self.augments else states

    def loss(self, head: nn.Module, states: Sequence[Tensor], rows: Rows) -> Tensor:
        told, frames = head(states)
        return ctc_loss(told, frames, [self.tokens[row] for row in rows])

    def told(self, head: nn.Module, states: Sequence[Tensor], rows: Rows) -> list[list[str]]:
        """Words or phones."""
        return [self.spelled(tokens) for tokens in told_tokens(*head(states))]

    def judged(self, told: Sequence[list[str]], rows: Rows, setting: tuple[float, ...] | None) -> Judged:
        """Sum of parts by sum of wholes; less than 0 where higher is better."""
        counted = [self.counted(self.truth[row], own) for row, own in zip(rows, told, strict=True)]
        parts, wholes = np.array(counted, np.float64).T
        share = float(parts.sum() / wholes.sum())
        return Judged(-share if self.higher_is_better else share, parts, wholes)


def of_like_length(clips: Sequence[Clip], train: Rows, batch: int, seed: int) -> Buckets:
    """Batches of the clips that train."""
    return Buckets(train, np.array([samples_of(clips[int(row)]) for row in train]), batch, seed)


def spoken_course(spoken: Spoken, batch: int, seed: int) -> Course:
    """Utterances in batches of like length."""
    return Course(
        root=spoken.root,
        clips=spoken.clips,
        fold=spoken.fold,
        unit=spoken.names[spoken.fold.test],
        batches=of_like_length(spoken.clips, spoken.fold.train, batch, seed),
    )
