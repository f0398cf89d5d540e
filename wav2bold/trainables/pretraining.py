"""The control of the paper: stage 2's steps with wav2vec2's own objective, on sound alone.

Windows, their order, steps, optimisers and rates are those of stage 2. BOLD decides nothing of what is
trained: it only tells after each epoch how well a ridge reads it from the encoder.
"""

# B windows or one stretch, F frames, M masked frames, C convolution channels, D hidden features

from collections.abc import Callable
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import Configuration
from wav2bold.datasets.windows import window_length
from wav2bold.errors import StudyError
from wav2bold.trainables.batches import Step
from wav2bold.trainables.contrastive import FEWEST_SPANS, SPAN, ContrastHead, load_head, masks, negatives
from wav2bold.trainables.drift import Drift, FollowedDrift
from wav2bold.trainables.encoder import Boundary, Encoder, heard
from wav2bold.trainables.families import SpeechModel, convolved, positioned, through_layers
from wav2bold.trainables.hearing import AnyHearing
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.stage2 import DivergedError, Stage2, autocast

Pass = tuple[Tensor, Tensor | None, Tensor]
"""What goes through the encoder at once: what lies below, who may attend to whom, and (B, F) masks."""
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
        moving: list[Tensor] = list(self._contrast.parameters())
        white = configuration.noise == "white"  # as it was asked for: what was fitted depends on BOLD
        self._begin(model, hearing, moving, moving, configuration, seed, white=white)

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
        features = self._scored.all_pooled(self.model, self.layer_weights)
        if not np.isfinite(features).all():
            last = self._steps - 1
            raise DivergedError(self._steps, self._options.encoder_lr * self._share_of_rate(last))
        self._fitted = self._fit(features)
        return loss

    def _backward(self, step: Step) -> Tensor:
        """Gradients of the mean loss of a step's masked frames, and the loss."""
        random = np.random.default_rng([self._seed, self._steps])
        passes = self._passes(np.concatenate(step), random)
        masked = list(chain.from_iterable(mask_BF.sum(1).tolist() for _, _, mask_BF in passes))
        others = torch.from_numpy(negatives(masked, self._contrast.negatives, random)).to(passes[0][0].device)
        draw = int(random.integers(2**62))
        if len(passes) == 1:
            loss = self._cost(*self._masked(passes[0]), masked, others, draw)
            loss.backward()
            return loss.detach()
        return self._backward_by_passes(passes, masked, others, draw)

    def _backward_by_passes(self, passes: list[Pass], masked: list[int], others: Tensor, draw: int) -> Tensor:
        """The same where not all fits through at once: what passes give first, then each one's share anew.

        Exact, although how evenly codes are used is one number of all passes.
        """
        with torch.no_grad():
            found = [self._masked(one) for one in passes]
        normed_MC, hidden_MD = (torch.cat(part).requires_grad_() for part in zip(*found, strict=True))
        loss = self._cost(normed_MC, hidden_MD, masked, others, draw)
        loss.backward()
        assert normed_MC.grad is not None
        assert hidden_MD.grad is not None
        frames = [len(normed) for normed, _ in found]
        grads = zip(normed_MC.grad.split(frames), hidden_MD.grad.split(frames), strict=True)
        for one, (of_normed, of_hidden) in zip(passes, grads, strict=True):
            normed, hidden = self._masked(one)
            if normed.requires_grad:  # where the convolutions or their norm are trained
                torch.autograd.backward([hidden, normed], [of_hidden, of_normed])
            else:
                hidden.backward(of_hidden)
        return loss.detach()

    def _passes(self, rows: NDArray[np.int64], random: np.random.Generator) -> list[Pass]:
        """These windows, a micro-batch at once, or their stretches, one by one; masked."""
        found: list[Pass] = []
        for part in self._hearing.together(rows):
            below, attention = self._hearing.below(part), self._hearing.attention(part)
            frames = below.shape[1]
            if self._hearing.boundary.at == "audio":
                frames = self._hearing.encoder.frames(frames)
            mask_BF = torch.from_numpy(masks(len(below), frames, random)).to(below.device)
            at_once = below.split(self.micro_batch), mask_BF.split(self.micro_batch)
            found += [(some, attention, masked) for some, masked in zip(*at_once, strict=True)]
        return found

    def _masked(self, one: Pass) -> tuple[Tensor, Tensor]:
        """Of every masked frame the normalised convolutions (M, C) and the encoder's output (M, D)."""
        below, attention, mask_BF = one
        with autocast(self._options, below.device):
            normed_BFC, hidden_BFD = self._heard(self.model, below, attention, mask_BF)
        return normed_BFC[mask_BF].float(), hidden_BFD[mask_BF].float()

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

    def _cost(
        self, normed_MC: Tensor, hidden_MD: Tensor, masked: list[int], others: Tensor, draw: int
    ) -> Tensor:
        """Mean loss of masked frames. draw: seed of the choice of codes, which torch draws by itself."""
        device = normed_MC.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(draw)
            loss: Tensor = self._contrast(normed_MC, hidden_MD, masked, others)
        return loss


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
