"""Training the heads of pr and asr: one pass of the encoder feeds all tasks and all learning rates."""

# L hidden states, F frames, D features, N test utterances

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wav2bold.options import write_whole
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.superb.clips import samples_of
from wav2bold.trainables.superb.draws import Buckets
from wav2bold.trainables.superb.edits import edits
from wav2bold.trainables.superb.frame_heads import FrameHead, ctc_loss, told_tokens
from wav2bold.trainables.superb.librispeech import Spoken
from wav2bold.trainables.superb.listening import Listener, Shelf

MAX_NORM = 1.0


@dataclass(frozen=True)
class Lesson:
    """What one task is to learn. name: of the task.

    tokens: of every utterance, from 1 on.  truth: what is counted of every utterance, words or phones.
    spelled: told tokens as such words or phones.  head: a new one, of so many hidden states and features.
    updates, every: as in `Plan`.
    """

    name: str
    tokens: tuple[Tensor, ...]
    truth: tuple[tuple[str, ...], ...]
    spelled: Callable[[Sequence[int]], list[str]]
    head: Callable[[int, int], FrameHead]
    updates: int
    every: int


@dataclass(frozen=True)
class Learnt:
    """errors, lengths: (N,) of each test utterance.  dev: lowest error rate by learning rate, of the dev set.

    weights: (L,) of the featurizer.  sizes: (L,) mean length of a hidden state's vectors on the test set.
    """

    rate: float
    dev: Mapping[float, float]
    errors: NDArray[np.float64]
    lengths: NDArray[np.float64]
    weights: NDArray[np.float64]
    sizes: NDArray[np.float64]


@dataclass
class _Pupil:
    """One head of one task at one learning rate. best: its parameters where dev errors were fewest."""

    lesson: Lesson
    rate: float
    head: FrameHead
    optimiser: torch.optim.Adam
    best_errors: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)


def learn(
    encoder: Encoder,
    spoken: Spoken,
    lessons: Sequence[Lesson],
    rates: Sequence[float],
    batch: int,
    seed: int,
    checkpoint: Path,
    identity: Mapping[str, Any],
    shelf: Shelf,
) -> dict[str, Learnt]:
    """Train all lessons at all rates on the same batches; test each with the rate of fewest dev errors.

    checkpoint: folder for where training is at each look at the dev set; one of the same identity is gone
    on with, to the same numbers. What is drawn (dropout, SpecAugment) is drawn alike for every rate.
    """
    listener = Listener(encoder, spoken.clips, shelf)
    pupils = [_pupil(encoder, lesson, rate, seed) for lesson in lessons for rate in rates]
    train = spoken.fold.train
    lengths = np.array([samples_of(spoken.clips[int(row)]) for row in train])
    draws = Buckets(train, lengths, batch, seed)
    last = max(lesson.updates for lesson in lessons)
    step = _go_on(checkpoint, identity, pupils)
    while step < last:
        learning = [pupil for pupil in pupils if step < pupil.lesson.updates]
        _update(listener, draws(step), learning, (seed, step))
        step += 1
        due = [one for one in learning if step % one.lesson.every == 0 or step == one.lesson.updates]
        if due:
            _look(listener, spoken, due)
            _keep(checkpoint, identity, pupils, step)
    found = {}
    for lesson in lessons:
        own = [pupil for pupil in pupils if pupil.lesson is lesson]
        winner = min(own, key=lambda pupil: pupil.best_errors)
        winner.head.load_state_dict(winner.best)
        errors, sizes = _errors(listener, spoken.fold.test, [winner])
        found[lesson.name] = Learnt(
            rate=winner.rate,
            dev={pupil.rate: pupil.best_errors for pupil in own},
            errors=errors[0],
            lengths=np.array([len(lesson.truth[row]) for row in spoken.fold.test], np.float64),
            weights=winner.best["layers"].double().softmax(0).cpu().numpy(),
            sizes=sizes,
        )
    return found


def _pupil(encoder: Encoder, lesson: Lesson, rate: float, seed: int) -> _Pupil:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = lesson.head(encoder.layers + 1, int(encoder.model.config.hidden_size)).to(encoder.device)
    return _Pupil(lesson, rate, head, torch.optim.Adam(head.parameters(), lr=rate))


def _update(
    listener: Listener, rows: NDArray[np.int64], pupils: Sequence[_Pupil], seed: tuple[int, int]
) -> None:
    """One step of every pupil on the same batch."""
    device = listener.encoder.device
    drawn = int(np.random.SeedSequence(seed).generate_state(1)[0])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for part, (places, states) in enumerate(listener(rows)):
            for pupil in pupils:
                torch.manual_seed(drawn + part)
                pupil.head.train()
                told, frames = pupil.head(states)
                tokens = [pupil.lesson.tokens[rows[place]] for place in places]
                (ctc_loss(told, frames, tokens) / len(rows)).backward()
    for pupil in pupils:
        norm = torch.nn.utils.clip_grad_norm_(pupil.head.parameters(), MAX_NORM)
        if bool(torch.isfinite(norm)):  # else the reference passes over the batch, too
            pupil.optimiser.step()
        pupil.optimiser.zero_grad()


def _look(listener: Listener, spoken: Spoken, pupils: Sequence[_Pupil]) -> None:
    """Compare the pupils' dev errors with their fewest."""
    errors, _ = _errors(listener, spoken.fold.dev, pupils)
    for pupil, own in zip(pupils, errors, strict=True):
        lengths = sum(len(pupil.lesson.truth[row]) for row in spoken.fold.dev)
        if own.sum() / lengths < pupil.best_errors:
            pupil.best_errors = float(own.sum() / lengths)
            pupil.best = {name: value.detach().clone() for name, value in pupil.head.state_dict().items()}


def _errors(
    listener: Listener, rows: NDArray[np.int64], pupils: Sequence[_Pupil]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors of each pupil in each utterance, (pupils, rows), and the mean length of vectors, (L,)."""
    errors = np.zeros((len(pupils), len(rows)))
    sizes, frames = np.zeros(listener.encoder.layers + 1), 0
    with torch.no_grad():
        for places, states in listener(rows):
            for one in states:
                sizes += one.norm(dim=2).sum(1).double().cpu().numpy()
                frames += one.shape[1]
            for number, pupil in enumerate(pupils):
                pupil.head.eval()
                for place, tokens in zip(places, told_tokens(*pupil.head(states)), strict=True):
                    truth = pupil.lesson.truth[rows[place]]
                    errors[number, place] = edits(truth, pupil.lesson.spelled(tokens))
    return errors, sizes / frames


def _keep(folder: Path, identity: Mapping[str, Any], pupils: Sequence[_Pupil], step: int) -> None:
    """One file, so that all pupils' places are of the same step."""
    tensors: dict[str, Tensor] = {}
    for number, pupil in enumerate(pupils):
        tensors |= {f"{number}.now.{name}": value for name, value in pupil.head.state_dict().items()}
        tensors |= {f"{number}.best.{name}": value for name, value in pupil.best.items()}
        for key, state in pupil.optimiser.state_dict()["state"].items():
            tensors |= {f"{number}.adam.{key}.{name}": value for name, value in state.items()}
    told = {
        "identity": json.dumps(identity, sort_keys=True),
        "step": str(step),
        "errors": json.dumps([pupil.best_errors for pupil in pupils]),
    }
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_whole(folder / "transcribing.safetensors", save(whole, told))


def _go_on(folder: Path, identity: Mapping[str, Any], pupils: Sequence[_Pupil]) -> int:
    """Take up a checkpoint of this identity, if there is one that can be read; steps done."""
    try:
        with safe_open(folder / "transcribing.safetensors", "pt") as file:
            told = file.metadata()
            if told.get("identity") != json.dumps(identity, sort_keys=True):
                return 0
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except (OSError, SafetensorError):
        return 0
    for number, (pupil, errors) in enumerate(zip(pupils, json.loads(told["errors"]), strict=True)):
        device = next(pupil.head.parameters()).device
        pupil.head.load_state_dict(_part(tensors, f"{number}.now."))
        pupil.best = {name: value.to(device) for name, value in _part(tensors, f"{number}.best.").items()}
        pupil.best_errors = errors
        adam: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, f"{number}.adam.").items():
            key, _, what = name.partition(".")
            adam.setdefault(int(key), {})[what] = value
        groups = pupil.optimiser.state_dict()["param_groups"]
        pupil.optimiser.load_state_dict({"state": adam, "param_groups": groups})
    return int(told["step"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
