"""Stage 1 and stage 2 of one configuration: a generator of one report per epoch."""

# B windows, P head features, V targets

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wav2bold.config import Configuration
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows
from wav2bold.errors import DataError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.changes import change_of
from wav2bold.trainables.drift import Drift
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.families import SpeechModel
from wav2bold.trainables.hearing import hearing_of
from wav2bold.trainables.noise import Clock, NoiseModel, groups_of, whitened
from wav2bold.trainables.people import refuse_other_places, targets_of
from wav2bold.trainables.pretraining import Pretraining, below_masks
from wav2bold.trainables.reduced import Factors, reduced
from wav2bold.trainables.resuming import Checkpoint, Place, identity_of
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.scores import Report, brain_score, pearson
from wav2bold.trainables.shared_head import for_everyone
from wav2bold.trainables.stage1 import solve_stage1
from wav2bold.trainables.stage2 import DivergedError, Stage2
from wav2bold.trainables.team import ALONE, Team
from wav2bold.trainables.torch_head import Criterion
from wav2bold.trainables.unfreezing import changed_by, merged, unfreeze

Shown = Callable[[float, NDArray[np.float32]], None]
"""Is given an epoch's brain score and its prediction of the validation windows, (B, V)."""


def unseen(score: float, predicted: NDArray[np.float32]) -> None:
    """Nobody looks at predictions."""


@dataclass(frozen=True)
class Material:
    """What refinements share and none of them changes."""

    encoder: Encoder
    shards: Shards
    store: ActivationStore
    train: Windows
    validation: Windows


@dataclass(frozen=True)
class Refined:
    """The refined encoder of the epoch whose validation score was best; epoch 0 if none helped.

    With `objective: pretrain` that of the last epoch: a choice by its score would be made by BOLD.
    model: a copy, the pretrained one is untouched.  head: fitted with it.  score: on validation.
    layer_weights: (K,) with which the head sums hidden states, None where it doesn't.
    """

    configuration: Configuration
    model: SpeechModel
    head: Head
    epoch: int
    score: float
    layer_weights: NDArray[np.float32] | None = None


def refine(
    material: Material,
    configuration: Configuration,
    seed: int,
    checkpoint: Path | None = None,
    team: Team = ALONE,
    shown: Shown = unseen,
) -> Generator[Report, None, Refined]:
    """Refine the encoder; yields a report per epoch, returns the refined encoder.

    Stage 1 solves the head with the encoder frozen. Stage 2 trains head and unfrozen parameters on the loss
    plus the head's own ridge penalty, so that it starts at a minimum in the head. Features lose the drift
    that BOLD lost, and errors are weighed by the noise that stage 1 leaves over. Everything below the lowest
    unfrozen parameter is read from the store.
    checkpoint: a folder in which each epoch leaves where the refinement is (see `resuming`). Whoever finds it
    yields the reports that were made, goes on, and ends with the same numbers.
    team: who share the work; each of them calls this with the same arguments, and sees the same.
    shown: is called once for each epoch that isn't read from a checkpoint, by the first of the team alone.
    A loss that stops being a number ends it with the epoch kept so far; the last report's note says so.
    With `objective: pretrain` stage 2 never sees BOLD (see `pretraining`): the last epoch is kept, and every
    report's score is that of a stage 1 solved anew on the encoder as it is then, in the noise of the first.
    Raises UserError if not even one window fits into memory, if the head can't have its rank, or if people
    can't share it.
    """
    started = time.monotonic()
    torch.set_flush_denormal(True)  # denormals can stall a processor tenfold
    if configuration.head == "shared":
        refuse_other_places(material.shards, material.train.subject)
    unfrozen = unfreeze(material.encoder, configuration, seed)
    train, validation = (
        hearing_of(material.encoder, material.shards, material.store, some, configuration, unfrozen.boundary)
        for some in (material.train, material.validation)
    )
    cleaning, tr_s = material.shards.card.cleaning, material.shards.card.tr_s
    drift, validation_drift = Drift(material.train, cleaning), Drift(material.validation, cleaning)
    validation_clock = Clock.of(material.validation, tr_s)

    kept = None if checkpoint is None else checkpoint_of(checkpoint, material, configuration, seed)

    def report(
        epoch: int, loss: float, head: Head, noise: NoiseModel, features: NDArray[np.float32], note: str = ""
    ) -> Report:
        own = head.predict(validation_drift.removed(features))
        predicted = for_everyone(own, material.validation.y.shape[1])
        scores = pearson(material.validation.y, predicted)
        score = brain_score(scores)
        white = white_scores(noise, validation_clock, material.validation.y, predicted)
        seconds = time.monotonic() - started
        last = epoch == configuration.epochs or not unfrozen.names
        shown(score, predicted)
        drift = 0.0 if last and epoch == 0 else math.nan
        return Report(epoch, loss, score, scores, brain_score(white), seconds, last, note, drift)

    def solved(
        features: NDArray[np.float32], noise: NoiseModel | None = None
    ) -> tuple[Head, NoiseModel, Factors | None]:
        """Stage 1 on an encoder's features of the training windows, in the noise if it is known."""
        features = drift.removed(features)
        head, noise = solve_stage1(features, material.train, tr_s, configuration, seed, noise)
        if configuration.head_rank is None:
            return head, noise, None
        factors = reduced(head, configuration.head_rank, features)
        return replace(head, weight=factors[0] @ factors[1]), noise, factors

    def begin() -> Place:
        """Where it was, or else stage 1."""
        found = None if kept is None else kept.load()
        if found is not None:
            return found
        head, noise, factors = solved(train.frozen_pooled)
        first = report(0, math.nan, head, noise, validation.frozen_pooled)
        weights = train.first_weights
        found = Place((first,), noise, head, 0, head, best_weights=weights, factors=factors)
        if kept is not None:
            kept.save(found)
        return found

    for story in team.stories:
        train.keep(story)
        validation.keep(story)
    team.wait()
    place = team.first(begin)
    head, noise = place.head, place.noise
    started = time.monotonic() - place.reports[-1].seconds
    yield from place.reports
    model = merged(unfrozen.model, place.best_parameters) if place.best_epoch else material.encoder.model
    score = place.reports[place.best_epoch].score
    best = Refined(configuration, model, place.best_head, place.best_epoch, score, place.best_weights)
    told = place.reports[-1]
    if told.last:
        return best

    training: Stage2
    if configuration.objective == "pretrain":
        training = Pretraining(
            unfrozen.model,
            hearing_of(
                material.encoder,
                material.shards,
                material.store,
                material.train,
                configuration,
                below_masks(unfrozen.boundary),
            ),
            train,
            head,
            lambda features: solved(features, noise)[0],
            configuration,
            seed,
            team,
        )
    else:
        criterion = Criterion(
            material.train.y,
            material.train.subject,
            Clock.of(material.train, tr_s),
            noise,
            configuration.loss,
            ceiling_weights(material) if configuration.weight_by_ceiling else None,
            material.encoder.device,
        )
        training = Stage2(
            unfrozen.model, train, head, criterion, drift, configuration, seed, place.factors, team
        )
    if place.training:
        training.restore(place.training)
    while True:
        epoch = told.epoch + 1
        try:
            loss, diverged = training.epoch(epoch), None
        except DivergedError as error:
            loss, diverged = math.nan, error
        head, weights = training.head, training.layer_weights
        if diverged is not None:
            step, rate = diverged.args
            note = (
                f"the loss stopped being a number in step {step} at an encoder_lr of {rate:.2g}; epoch "
                f"{best.epoch} was kept; lower encoder_lr"
            )
            told = replace(told, epoch=epoch, loss=loss, score=best.score, last=True, note=note)
        else:
            features = validation.all_pooled(training.model, weights, team)
            told = team.first(partial(report, epoch, loss, head, noise, features, training.note))
            if not configuration.keeps_best or told.score > best.score:
                best = Refined(configuration, merged(training.model), head, epoch, told.score, weights)
            if configuration.patience is not None and epoch - best.epoch >= configuration.patience:
                told = replace(told, last=True)
        if told.last:
            changed = changed_by(material.encoder, configuration)
            told = replace(told, drift=change_of(material.encoder.model, best.model, changed))
        if kept is not None and team.is_first:
            place = place.after(told, head, weights, training.state(), is_best=best.epoch == epoch)
            kept.save(place)
        yield told
        if told.last:
            return best


def checkpoint_of(folder: Path, material: Material, configuration: Configuration, seed: int) -> Checkpoint:
    """The checkpoint in `folder`, of this refinement alone."""
    heard = (material.train, material.validation)
    identity = identity_of(
        material.encoder, material.shards, material.store.dtype, heard, configuration, seed
    )
    return Checkpoint(folder, identity)


def ceiling_weights(material: Material) -> NDArray[np.float32]:
    """(V,) square of every training target's noise ceiling, 1 on average.

    Raises DataError if no target has one; a target without one counts as the others do on average.
    """
    ceiling = targets_of(material.shards, material.train.subject)["ceiling"].to_numpy().astype(np.float64)
    if not np.isfinite(ceiling).any():
        raise DataError(
            "weight_by_ceiling: no target has a noise ceiling",
            "leave it out, or prepare recordings in which a story was heard more than once",
        )
    weight = np.clip(ceiling, 0, None) ** 2
    weight /= np.nanmean(weight)
    return np.asarray(np.nan_to_num(weight, nan=1.0), np.float32)


def white_scores(
    noise: NoiseModel, clock: Clock, y: NDArray[np.floating], predicted: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(V,) r per target between BOLD and prediction, both multiplied by what makes noise white."""
    scores = np.full(y.shape[1], np.nan)
    for group in groups_of(y, clock.story):
        if len(group.rows):
            place = np.ix_(np.concatenate(group.recordings), group.columns)
            told, shown = (
                whitened(noise, clock, group.recordings, some[place].astype(np.float64))
                for some in (y, predicted)
            )
            scores[group.columns] = pearson(told, shown)
    return scores
