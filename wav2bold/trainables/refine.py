"""Stage 1 and stage 2 of one configuration: a generator of one report per epoch."""

# B windows, P = n * D head features, V targets

import math
import time
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.config import Configuration
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows
from wav2bold.errors import UserError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.drift import Drift, FollowedDrift
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.families import SpeechModel
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.ridge import Head, fit_head
from wav2bold.trainables.scores import brain_score, pearson
from wav2bold.trainables.unfreezing import merged, unfreeze


@dataclass(frozen=True)
class Material:
    """What refinements share and none of them changes."""

    encoder: Encoder
    shards: Shards
    store: ActivationStore
    train: Windows
    validation: Windows


@dataclass(frozen=True)
class Report:
    """One epoch. Epoch 0 is stage 1: the frozen encoder with the exact ridge head.

    loss: mean of the epoch's steps (NaN in epoch 0).  score: mean r over targets on the validation
    stories.  scores: (V,) r per target.  seconds: since the refinement began.
    """

    epoch: int
    loss: float
    score: float
    scores: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True)
class Refined:
    """The refined encoder of the epoch whose validation score was best; epoch 0 if none helped.

    model: a copy, the pretrained one is untouched, with adapters folded in.  head: fitted with it.
    score: on validation.
    """

    configuration: Configuration
    model: SpeechModel
    head: Head
    epoch: int
    score: float


def refine(material: Material, configuration: Configuration, seed: int) -> Generator[Report, None, Refined]:
    """Refine the encoder; yields a report per epoch, returns the refined encoder.

    Stage 1 solves the head with the encoder frozen. Stage 2 trains head and unfrozen parameters
    with AdamW on the mean squared error plus the head's own ridge penalty, so that it starts at
    a minimum in the head. Features lose the drift that BOLD lost. Everything below the lowest
    unfrozen parameter is read from the store.
    Raises UserError if the loss stops being a number.
    """
    started = time.monotonic()
    torch.set_flush_denormal(True)  # denormals can stall a processor tenfold
    unfrozen = unfreeze(material.encoder, configuration, seed)
    model, boundary = unfrozen.model, unfrozen.boundary
    train = Hearing(
        material.encoder, material.shards, material.store, material.train, configuration.history, boundary
    )
    validation = Hearing(
        material.encoder,
        material.shards,
        material.store,
        material.validation,
        configuration.history,
        boundary,
    )

    cleaning = material.shards.card.cleaning
    drift, validation_drift = Drift(material.train, cleaning), Drift(material.validation, cleaning)

    features = drift.removed(train.frozen_pooled)
    head = fit_head(features, material.train.y, material.train.story, configuration.head_l2)
    predicted = head.predict(validation_drift.removed(validation.frozen_pooled))
    scores = pearson(material.validation.y, predicted)
    best = Refined(configuration, material.encoder.model, head, 0, brain_score(scores))
    yield Report(0, float("nan"), best.score, scores, time.monotonic() - started)
    if not unfrozen.names:
        return best

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = material.encoder.device
    tuned = _TorchHead(head, device)
    followed = FollowedDrift(drift, train.frozen_pooled, device)
    optimiser = torch.optim.AdamW(
        [
            {"params": trained, "lr": configuration.encoder_lr, "weight_decay": configuration.weight_decay},
            {"params": tuned.parameters, "lr": configuration.head_lr, "weight_decay": 0.0},
        ]
    )
    steps = math.ceil(len(material.train) / configuration.batch) * configuration.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: warmup_cosine(step, configuration.warmup_steps, steps)
    )
    measured = int(np.isfinite(material.train.y).sum())
    for epoch in range(1, configuration.epochs + 1):
        order = np.random.default_rng([seed, epoch]).permutation(len(material.train))
        losses = []
        for first in range(0, len(order), configuration.batch):
            rows = order[first : first + configuration.batch]
            features_BP = followed.removed(rows, train.pooled(model, train.below(rows)))
            loss = tuned.loss(features_BP, torch.from_numpy(material.train.y[rows]).to(device))
            optimiser.zero_grad()
            (loss + tuned.penalty() / measured).backward()
            torch.nn.utils.clip_grad_norm_([*trained, *tuned.parameters], configuration.clip)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise UserError(
                f"the loss became {losses[-1]} in epoch {epoch} at encoder_lr {configuration.encoder_lr:g}",
                "lower encoder_lr",
            )
        head = tuned.head()
        predicted = head.predict(validation_drift.removed(validation.all_pooled(model)))
        scores = pearson(material.validation.y, predicted)
        score = brain_score(scores)
        if score > best.score:
            best = Refined(configuration, merged(model), head, epoch, score)
        yield Report(epoch, float(np.mean(losses)), score, scores, time.monotonic() - started)
    return best


def warmup_cosine(step: int, warmup: int, steps: int) -> float:
    """Share of the highest learning rate at a step: a straight rise, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1.0)))


class _TorchHead:
    """The head in training: weights move, the features' mean and spread stay those of stage 1."""

    def __init__(self, head: Head, device: torch.device) -> None:
        self._head = head
        self._mean, self._sd, self._alpha, self._weight, self._bias = (
            torch.tensor(part, device=device)
            for part in (head.mean, head.sd, head.alpha, head.weight, head.bias)
        )
        self._weight.requires_grad_()
        self._bias.requires_grad_()
        self.parameters = [self._weight, self._bias]

    def loss(self, features_BP: Tensor, y_BV: Tensor) -> Tensor:
        """Mean squared error over the targets that were measured."""
        predicted_BV = (features_BP - self._mean) / self._sd @ self._weight + self._bias
        measured = torch.isfinite(y_BV)
        error_BV = torch.where(measured, predicted_BV - torch.nan_to_num(y_BV), 0.0)
        return (error_BV**2).sum() / measured.sum()

    def penalty(self) -> Tensor:
        """Sum over targets of alpha * |w|^2: over the measured values it is stage 1's own penalty."""
        return (self._alpha * (self._weight**2).sum(0)).sum()

    def head(self) -> Head:
        """The head as it is now."""
        return Head(
            self._head.mean,
            self._head.sd,
            self._weight.detach().cpu().numpy().copy(),
            self._bias.detach().cpu().numpy().copy(),
            self._head.alpha,
        )
