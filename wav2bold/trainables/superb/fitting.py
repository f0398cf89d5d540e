"""Training the head of ks, ic, sid or er at all learning rates at once, and testing the best on dev."""

# R learning rates, B clips, N test clips, L hidden states

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wav2bold.trainables.superb.checkpoints import keep, kept
from wav2bold.trainables.superb.draws import Draws, class_shares
from wav2bold.trainables.superb.hidden import Pooled
from wav2bold.trainables.superb.pooled_heads import answers, beginning, losses, right
from wav2bold.trainables.superb.stacked_adam import StackedAdam
from wav2bold.trainables.superb.utterances import Fold, Utterances

AT_ONCE = 512
"""Clips whose answers are told at once, without gradient."""
MAX_NORM = 1.0


@dataclass(frozen=True)
class Plan:
    """How long, with which rates. every: updates between two looks at the dev set."""

    updates: int
    every: int
    batch: int
    rates: tuple[float, ...]
    seed: int


@dataclass(frozen=True)
class Fitted:
    """right: (N,) whether each test clip's answer is.  dev: best dev score by rate.  weights: (L,)."""

    rate: float
    dev: Mapping[float, float]
    right: NDArray[np.bool_]
    weights: NDArray[np.float64]


def fit(
    utterances: Utterances,
    fold: Fold,
    means: Pooled,
    plan: Plan,
    device: torch.device,
    checkpoint: Path,
    identity: Mapping[str, Any],
) -> Fitted:
    """Train on a fold's train clips, keep each rate's best state on dev, test that of the best rate.

    Of rates that are equally good the one of lower dev loss is taken.
    checkpoint: file for where training is at each look at the dev set; one of the same identity is gone on
    with, to the same numbers.
    """
    shape = means.means(fold.train[:1]).shape
    parameters = beginning(shape[1], shape[2], sum(utterances.classes), len(plan.rates), plan.seed, device)
    adam = StackedAdam(parameters, torch.tensor(plan.rates, device=device), MAX_NORM)
    best = _Best(parameters)
    _go_on(checkpoint, identity, adam, best)
    labels = torch.from_numpy(utterances.labels)
    draws = Draws(
        fold.train,
        plan.batch,
        plan.seed,
        utterances.labels[fold.train, 0] if utterances.balanced else None,
        drops_last=utterances.drops_last,
    )
    while adam.steps < plan.updates:
        rows = draws(adam.steps)
        seen = torch.from_numpy(means.means(rows)).to(device)
        losses(answers(parameters, seen), labels[rows].to(device), utterances.classes).sum().backward()
        adam.step()
        if adam.steps % plan.every == 0 or adam.steps == plan.updates:
            right_RN, loss_R = _told(parameters, means, fold.dev, labels, utterances.classes)
            shares = _shares(utterances, fold.dev)
            best.take(parameters, right_RN @ shares, loss_R)
            _keep(checkpoint, identity, adam, best)
    rate = max(range(len(plan.rates)), key=lambda number: (best.scores[number], -best.losses[number]))
    winner = {name: value[rate : rate + 1] for name, value in best.parameters.items()}
    right_RN, _ = _told(winner, means, fold.test, labels, utterances.classes)
    return Fitted(
        rate=plan.rates[rate],
        dev=dict(zip(plan.rates, best.scores.tolist(), strict=True)),
        right=right_RN[0],
        weights=winner["layers"][0].detach().double().softmax(0).cpu().numpy(),
    )


class _Best:
    """Each rate's parameters where its dev score was highest. scores, losses: (R,), -inf and inf at first."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.parameters = {name: value.detach().clone() for name, value in parameters.items()}
        rates = len(next(iter(parameters.values())))
        self.scores, self.losses = np.full(rates, -math.inf), np.full(rates, math.inf)

    def take(
        self, parameters: Mapping[str, Tensor], scores: NDArray[np.float64], losses: NDArray[np.float64]
    ) -> None:
        """Keep what is better than before."""
        better = scores > self.scores
        for name, value in parameters.items():
            which = torch.from_numpy(better).to(value.device)
            self.parameters[name][which] = value.detach()[which]
        self.scores, self.losses = (
            np.where(better, scores, self.scores),
            np.where(better, losses, self.losses),
        )


def _told(
    parameters: Mapping[str, Tensor],
    means: Pooled,
    rows: NDArray[np.int64],
    labels: Tensor,
    classes: tuple[int, ...],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which answers are right, (R, rows), and the mean loss, (R,)."""
    device = next(iter(parameters.values())).device
    found, loss = [], np.zeros(len(parameters["layers"]))
    with torch.no_grad():
        for first in range(0, len(rows), AT_ONCE):
            some = rows[first : first + AT_ONCE]
            logits = answers(parameters, torch.from_numpy(means.means(some)).to(device))
            own = labels[some].to(device)
            found.append(right(logits, own, classes).cpu().numpy())
            loss = loss + losses(logits, own, classes).double().cpu().numpy() * len(some) / len(rows)
    return np.concatenate(found, axis=1), np.nan_to_num(loss, nan=math.inf)


def _shares(utterances: Utterances, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(rows,) what each counts in the dev score: equally, or so that each class does."""
    if not utterances.balanced:
        return np.full(len(rows), 1 / len(rows))
    return class_shares(utterances.labels[rows, 0])


def _keep(path: Path, identity: Mapping[str, Any], adam: StackedAdam, best: _Best) -> None:
    tensors = adam.state() | {f"best.{name}": value for name, value in best.parameters.items()}
    tensors |= {"scores": torch.from_numpy(best.scores), "losses": torch.from_numpy(best.losses)}
    keep(path, identity, tensors, {"steps": adam.steps})


def _go_on(path: Path, identity: Mapping[str, Any], adam: StackedAdam, best: _Best) -> None:
    """Take up a checkpoint of this identity, if there is one that can be read."""
    found = kept(path, identity)
    if found is None:
        return
    state, told = found
    adam.restore(state, told["steps"])
    for name, value in best.parameters.items():
        value.copy_(state[f"best.{name}"])
    best.scores, best.losses = state["scores"].numpy(), state["losses"].numpy()
