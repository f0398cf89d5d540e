"""What asv learns: an embedding by which recordings of one speaker are alike, trained on telling speakers."""

# B recordings, L hidden states, F frames, D features, P projected, T trials, E embedding, S speakers

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from wav2bold.trainables.superb.frame_heads import weighed
from wav2bold.trainables.superb.learning import Judged, Rows
from wav2bold.trainables.superb.statistic import equal_error_rate

WIDTH, POOLED = 512, 1500
CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
"""Frames that each layer sees, and how far apart they are: x-vectors (Snyder et al. 2018)."""
LOST = sum((frames - 1) * apart for frames, apart in CONTEXTS)
"""Frames that have no such surroundings."""
SCALE, MARGIN = 30.0, 0.4
"""Of AM-softmax (Wang et al. 2018), as in the reference."""


class XVector(nn.Module):
    """The featurizer's weighted sum, projected; frames in their surroundings; mean and spread; embedding."""

    def __init__(self, speakers: int, layers: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Parameter(torch.zeros(layers))
        self.project = nn.Linear(features, WIDTH)
        widths = [WIDTH] * len(CONTEXTS) + [POOLED]
        self.surroundings = nn.Sequential()
        for (frames, apart), (width, wider) in zip(CONTEXTS, pairwise(widths), strict=True):
            self.surroundings += nn.Sequential(nn.Conv1d(width, wider, frames, dilation=apart), nn.ReLU())
        self.embed = nn.Sequential(nn.Linear(2 * POOLED, WIDTH), nn.ReLU())
        self.refine = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.speakers = nn.Parameter(nn.init.xavier_normal_(torch.empty(WIDTH, speakers)))

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Embeddings (B, E) of recordings (L, F, D); each is as it would be alone."""
        summed = weighed(self.layers, states)
        seen_BPF = self.surroundings(self.project(pad_sequence(summed, batch_first=True)).transpose(1, 2))
        own = [seen_PF[:, : len(one) - LOST] for seen_PF, one in zip(seen_BPF, summed, strict=True)]
        pooled = [torch.cat([one.mean(1), one.std(1)]) for one in own]
        embedded: Tensor = self.embed(torch.stack(pooled))
        return embedded

    def loss(self, embedded_BE: Tensor, speakers_B: Tensor) -> Tensor:
        """Sum over recordings. In training one more layer lies between, as in the reference."""
        return am_softmax(self.refine(embedded_BE), self.speakers, speakers_B)


def am_softmax(embedded_BE: Tensor, speakers_ES: Tensor, own_B: Tensor) -> Tensor:
    """Sum of cross-entropies of scaled cosines, of which each one's own speaker's lacks the margin."""
    cosines_BS = nn.functional.normalize(embedded_BE, dim=1) @ nn.functional.normalize(speakers_ES, dim=0)
    margins_BS = MARGIN * nn.functional.one_hot(own_B, speakers_ES.shape[1])
    return nn.functional.cross_entropy(SCALE * (cosines_BS - margins_BS), own_B, reduction="sum")


@dataclass(frozen=True)
class VerifyingLesson:
    """A `Lesson` of speakers. speaker: number of every recording's, below `speakers` where it trains.

    trials: (T, 3) of dev and test: 1 for one speaker's, else 0, and the rows of both recordings.
    """

    speaker: NDArray[np.int64]
    speakers: int
    trials: NDArray[np.int64]
    updates: int
    every: int
    name: str = "asv"
    max_norm: float = 1e3

    @property
    def truth(self) -> tuple[object, ...]:
        return self.speaker.tolist(), self.trials.tolist()

    @property
    def head(self) -> Callable[[int, int], nn.Module]:
        return partial(XVector, self.speakers)

    def optimiser(self, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=rate)

    def size(self, rows: Rows) -> float:
        return len(rows)

    def prepared(self, states: Sequence[Tensor]) -> Sequence[Tensor]:
        return states

    def loss(self, head: nn.Module, states: Sequence[Tensor], rows: Rows) -> Tensor:
        assert isinstance(head, XVector)
        embedded = head(states)
        return head.loss(embedded, torch.from_numpy(self.speaker[rows]).to(embedded.device))

    def told(self, head: nn.Module, states: Sequence[Tensor], rows: Rows) -> list[NDArray[np.float64]]:
        """Embeddings of length 1."""
        embedded = nn.functional.normalize(head(states).double(), dim=1)
        return list(embedded.cpu().numpy())

    def judged(
        self, told: Sequence[NDArray[np.float64]], rows: Rows, setting: tuple[float, ...] | None
    ) -> Judged:
        """Cosines of these recordings' trials, and their equal error rate."""
        targets, first, second = self.trials[np.isin(self.trials[:, 1:], rows).all(1)].T
        order = np.argsort(rows)
        places = (order[np.searchsorted(rows, one, sorter=order)] for one in (first, second))
        ones_TE, others_TE = (np.nan_to_num(np.stack(told))[place] for place in places)
        cosines = (ones_TE * others_TE).sum(1)
        alone, once = np.arange(len(targets)), np.ones((1, len(targets)), np.float32)
        wholes = targets.astype(np.float64)
        return Judged(float(equal_error_rate(cosines, wholes, alone, once)[0]), cosines, wholes)
