"""The control of the paper: stage 2's steps with wav2vec2's own objective, on sound alone.

Windows, their order, steps, optimisers and rates are those of stage 2. BOLD decides nothing of what is
trained: it only tells after each epoch how well a ridge reads it from the encoder.
"""

# B sequences: windows, or one stretch, F frames, M masked frames, C convolution channels, D hidden features

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import Configuration
from wav2bold.datasets.windows import window_length
from wav2bold.errors import StudyError
from wav2bold.trainables.batches import Step
from wav2bold.trainables.contrastive import FEWEST_SPANS, SPAN, ContrastHead, load_head, mask, negatives
from wav2bold.trainables.drift import Drift, FollowedDrift
from wav2bold.trainables.encoder import Boundary, Encoder, heard
from wav2bold.trainables.families import SpeechModel, convolved, positioned, through_layers
from wav2bold.trainables.hearing import AnyHearing
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.stage2 import DivergedError, Stage2, autocast
from wav2bold.trainables.team import ALONE, Team

NO_CLEANING = {"detrend": False, "high_pass_s": None}


class Pretraining(Stage2):
    """Trains an encoder, those of its parameters that require gradient, to tell masked frames' codes.

    It hears with all of its layers, whichever the head for BOLD reads. Dropouts are off. Masks hide what
    enters the positional convolution, so that of all that is frozen only the convolutions are read from the
    store. head: a ridge fitted afresh after each epoch.
    """

    def __init__(
        self,
        model: SpeechModel,
        hearing: AnyHearing,
        scored: AnyHearing,
        head: Head,
        fit: Callable[[NDArray[np.float32]], Head],
        configuration: Configuration,
        seed: int,
        team: Team = ALONE,
    ) -> None:
        """hearing: of the training windows from `below_masks` on.  scored: the same windows for the ridge.

        head: as it was last fitted.  fit: gives it from features of all training windows.
        Raises StudyError if windows are too short to be masked.
        """
        refuse_short(hearing.encoder, hearing.shards.card.tr_s, configuration.history)
        self._scored, self._fitted, self._fit = scored, head, fit
        self._contrast = load_head(hearing.encoder.name, seed).to(hearing.encoder.device)
        # no features for BOLD, so none whose drift is followed
        nothing = np.zeros((len(hearing.windows), 0), np.float32)
        self._drift = FollowedDrift(Drift(hearing.windows, NO_CLEANING), nothing)
        self._heard = torch.compile(self._frames) if configuration.compile else self._frames
        white = configuration.noise == "white"  # as it was asked for: what was fitted depends on BOLD
        self._begin(model, hearing, configuration, seed, team, white=white)
        mask = self._contrast.mask
        above = [each for each in self._contrast.parameters() if each is not mask]
        self._move(above, [mask], [*above, mask])

    @property
    def note(self) -> str:
        """What of the objective's own head had to begin at random."""
        return note_of(self._contrast, self._hearing.encoder)

    @property
    def head(self) -> Head:
        """The ridge on the encoder as it was after the last epoch."""
        return self._fitted

    @property
    def layer_weights(self) -> NDArray[np.float32] | None:
        """Equal ones: without BOLD nothing trains them."""
        return self._scored.first_weights

    def epoch(self, number: int) -> float:
        """As stage 2's; then the ridge is fitted.

        Raises DivergedError also if what the encoder gives stopped being numbers.
        """
        loss = super().epoch(number)
        features = self._scored.all_pooled(self.model, self.layer_weights, self._team)
        if not np.isfinite(features).all():
            last = self._steps - 1
            raise DivergedError(self._steps, self._options.encoder_lr * self._share_of_rate(last))
        self._fitted = self._team.first(partial(self._fit, features))
        return loss

    def _given(self, rows: NDArray[np.int64]) -> int:
        """How many of these windows' frames are masked."""
        return sum(int(masked.sum()) for masked, _ in self._drawn(rows))

    def _drawn(self, rows: NDArray[np.int64]) -> list[tuple[NDArray[np.bool_], np.random.Generator]]:
        """Of each sequence its mask (F,) in this step, and what draws its negatives.

        Each has its own, whatever goes through the encoder beside it.
        """
        found = []
        for row, frames in self._hearing.sequences(rows) if len(rows) else []:
            random = np.random.default_rng([self._seed, self._steps, row])
            found.append((mask(frames, random), random))
        return found

    def _piece(self, rows: NDArray[np.int64]) -> Tensor:
        """(M, C + D) of the masked frames: convolutions, normalised, and beside them the encoder's output."""
        below, attention = self._hearing.below(rows), self._hearing.attention(rows)
        mask_BF = torch.from_numpy(np.stack([masked for masked, _ in self._drawn(rows)])).to(below.device)
        with autocast(self._options, below.device):
            normed_BFC, hidden_BFD = self._heard(self.model, below, attention, mask_BF)
        return torch.cat([normed_BFC[mask_BF].float(), hidden_BFD[mask_BF].float()], dim=1)

    def _frames(
        self, model: SpeechModel, below: Tensor, attention: Tensor | None, mask_BF: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same of every frame, (B, F, C) and (B, F, D)."""
        if self._hearing.boundary.at == "audio":
            below = convolved(model, heard(self._hearing.encoder, below))
        hidden_BFD, normed_BFC = model.feature_projection(below)
        hidden_BFD = torch.where(mask_BF[..., None], self._contrast.mask.to(hidden_BFD.dtype), hidden_BFD)
        hidden_BFD = positioned(model, hidden_BFD)
        return normed_BFC, through_layers(model, hidden_BFD, 0, self._hearing.encoder.layers, attention)

    def _mean_loss(self, step: Step, features_BP: Tensor) -> Tensor:
        """Mean loss of the masked frames of a step's windows: by codes that all of them share."""
        counts, others = [], []
        for masked, random in self._drawn(np.concatenate(step)):
            counts.append(int(masked.sum()))
            others.append(negatives(counts[-1], self._contrast.negatives, random))
        device, channels = features_BP.device, self._hearing.encoder.model.config.conv_dim[-1]
        negatives_MK = torch.from_numpy(np.concatenate(others)).to(device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(
                hash((self._seed, self._steps)) % 2**63
            )  # codes are chosen by torch's own chance
            loss: Tensor = self._contrast(
                features_BP[:, :channels], features_BP[:, channels:], counts, negatives_MK
            )
        return loss

    def _penalise(self) -> None:
        """Nothing: the paper's pre-training has no such penalty."""


def below_masks(boundary: Boundary) -> Boundary:
    """The highest boundary below masks, where that of all that is frozen is given."""
    return boundary if boundary.at == "audio" else Boundary("conv")


def refuse_short(encoder: Encoder, tr_s: float, history: int) -> None:
    """Raise StudyError if windows don't hold two masked spans."""
    frames = encoder.frames(window_length(tr_s, history))
    if frames < FEWEST_SPANS * SPAN:
        raise StudyError(
            f"objective: pretrain masks {FEWEST_SPANS} spans of {SPAN} frames in a window, and a history of "
            f"{history} TRs ({history * tr_s:g} s) has {max(frames, 0)}",
            "lengthen history",
        )


def note_of(head: ContrastHead, encoder: Encoder) -> str:
    """Which parts of the head began at random; "" if the checkpoint held them all."""
    parts = list(dict.fromkeys(name.partition(".")[0] for name in head.fresh))
    if not parts:
        return ""
    return (
        f"{', '.join(parts)} of pre-training began at random: the checkpoint of {encoder.name} holds none; "
        "give one that was saved with them to begin with its own"
    )
