"""Training heads that need every frame: one pass of the encoder feeds all tasks and all learning rates."""

# L hidden states, F frames, D features, N test scores

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.superb.checkpoints import keep, kept
from wav2bold.trainables.superb.clips import Clip
from wav2bold.trainables.superb.listening import Listener, Shelf
from wav2bold.trainables.superb.utterances import Fold

CHECKPOINT = "learning.safetensors"
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """What is made of all that a head told. score: lower is better.  parts, wholes: (N,) as in `Score`.

    setting: what was chosen so that the score is best, such as a threshold; of nothing to choose, nothing.
    """

    score: float
    parts: NDArray[np.float64]
    wholes: NDArray[np.float64]
    setting: tuple[float, ...] = ()


class Lesson(Protocol):
    """What one task is to learn, and how. Its head has a parameter `layers`, the featurizer's scalars."""

    @property
    def name(self) -> str:
        """Of the task."""

    @property
    def truth(self) -> tuple[Any, ...]:
        """All that is to be told, as what `repr` tells apart."""

    @property
    def updates(self) -> int:
        """As in `Plan`."""

    @property
    def every(self) -> int:
        """As in `Plan`."""

    @property
    def max_norm(self) -> float:
        """To which the whole gradient is clipped."""

    @property
    def head(self) -> Callable[[int, int], nn.Module]:
        """Makes a new one, of so many hidden states and features."""

    def optimiser(self, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        """Of one head."""

    def size(self, rows: Rows) -> float:
        """By what the loss of a batch is divided: its utterances, or its frames."""

    def prepared(self, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """Hidden states (L, F, D) as heads in training have them: made once for the heads of all rates."""

    def loss(self, head: nn.Module, states: Sequence[Tensor], rows: Rows) -> Tensor:
        """Sum of losses of some clips with prepared hidden states."""

    def told(self, head: nn.Module, states: Sequence[Tensor], rows: Rows) -> Sequence[Any]:
        """What the head tells of each of these clips."""

    def judged(self, told: Sequence[Any], rows: Rows, setting: tuple[float, ...] | None) -> Judged:
        """What was told of a whole dev or test set, with that setting; None: with the best one."""


@dataclass(frozen=True)
class Course:
    """Clips that lessons are about. root: folder that they are named from.

    unit: (N,) or (N, 2) what is drawn together, of each test score.  batches: rows of step 0, 1, ...
    cropped: what is heard of a clip in training, drawn anew each time; None: all of it.
    by_test: whether rate and setting are those that are best on the test set, as the reference has it.
    """

    root: Path
    clips: tuple[Clip, ...]
    fold: Fold
    unit: NDArray[np.str_]
    batches: Callable[[int], Rows]
    cropped: Callable[[Clip, np.random.Generator], Clip] | None = None
    by_test: bool = False


@dataclass(frozen=True)
class Learnt:
    """judged: of the test set.  told: of each test clip.  dev: best dev score by learning rate.

    weights: (L,) of the featurizer.  sizes: (L,) mean length of a hidden state's vectors on the test set.
    """

    rate: float
    dev: Mapping[float, float]
    judged: Judged
    told: Sequence[Any]
    weights: NDArray[np.float64]
    sizes: NDArray[np.float64]


@dataclass
class _Pupil:
    """One head of one task at one learning rate. score, setting, best: of its best look; best: parameters."""

    lesson: Lesson
    rate: float
    head: nn.Module
    optimiser: torch.optim.Optimizer
    score: float = math.inf
    setting: tuple[float, ...] = ()
    best: dict[str, Tensor] = field(default_factory=dict)


def learn(
    encoder: Encoder,
    course: Course,
    lessons: Sequence[Lesson],
    rates: Sequence[float],
    seed: int,
    checkpoint: Path,
    identity: Mapping[str, Any],
    store: ActivationStore,
) -> dict[str, Learnt]:
    """Train all lessons at all rates on the same batches; test each with the rate of the best dev score.

    checkpoint: folder for where training is at each look at the dev set; one of the same identity is gone
    on with, to the same numbers. What is drawn (crops, dropout, SpecAugment) is drawn alike for every rate.
    """
    listener = Listener(encoder, course.clips, Shelf(store, course.root))
    pupils = [_pupil(encoder, lesson, rate, seed) for lesson in lessons for rate in rates]
    last = max(lesson.updates for lesson in lessons)
    step = _go_on(checkpoint, identity, pupils)
    while step < last:
        learning = [pupil for pupil in pupils if step < pupil.lesson.updates]
        _update(listener, course, step, learning, seed)
        step += 1
        due = [one for one in learning if step % one.lesson.every == 0 or step == one.lesson.updates]
        if due:
            _look(listener, course, due)
            _keep(checkpoint, identity, pupils, step)
    return {
        lesson.name: _tested(listener, course, [pupil for pupil in pupils if pupil.lesson is lesson])
        for lesson in lessons
    }


def _pupil(encoder: Encoder, lesson: Lesson, rate: float, seed: int) -> _Pupil:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = lesson.head(encoder.layers + 1, int(encoder.model.config.hidden_size)).to(encoder.device)
    return _Pupil(lesson, rate, head, lesson.optimiser(head.parameters(), rate))


def _update(listener: Listener, course: Course, step: int, pupils: Sequence[_Pupil], seed: int) -> None:
    """One step of every pupil on the same batch."""
    device = listener.encoder.device
    rows = course.batches(step)
    drawn = int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for part, (places, states) in enumerate(_heard(listener, course, rows, (seed, step))):
            for _, group in groupby(pupils, lambda pupil: pupil.lesson.name):
                own = list(group)
                lesson = own[0].lesson
                torch.manual_seed(drawn + part)
                prepared = lesson.prepared(states)
                for pupil in own:
                    torch.manual_seed(drawn + part)
                    pupil.head.train()
                    loss = lesson.loss(pupil.head, prepared, rows[places])
                    (loss / lesson.size(rows)).backward()
    for pupil in pupils:
        norm = torch.nn.utils.clip_grad_norm_(pupil.head.parameters(), pupil.lesson.max_norm)
        if bool(torch.isfinite(norm)):  # else the reference passes over the batch, too
            pupil.optimiser.step()
        pupil.optimiser.zero_grad()


def _heard(
    listener: Listener, course: Course, rows: Rows, seed: tuple[int, int]
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """A batch that trains, as `Listener` gives it. Crops drawn anew are never heard again: none is kept."""
    clips = [course.clips[int(row)] for row in rows]
    random = np.random.default_rng(seed)
    crops = clips if course.cropped is None else [course.cropped(clip, random) for clip in clips]
    return listener(rows) if crops == clips else Listener(listener.encoder, crops)(np.arange(len(rows)))


def _look(listener: Listener, course: Course, pupils: Sequence[_Pupil]) -> None:
    """Compare the pupils' dev scores with their best."""
    told = _told(listener, course.fold.dev, pupils)
    for pupil, own in zip(pupils, told, strict=True):
        judged = pupil.lesson.judged(own, course.fold.dev, None)
        if judged.score < pupil.score:
            pupil.score, pupil.setting = judged.score, judged.setting
            pupil.best = {name: value.detach().clone() for name, value in pupil.head.state_dict().items()}


def _tested(listener: Listener, course: Course, pupils: Sequence[_Pupil]) -> Learnt:
    """The best of one lesson's pupils on the test set."""
    test = course.fold.test
    best = min(pupils, key=lambda pupil: pupil.score)
    sizes = _Sizes(listener.encoder.layers + 1)
    told = []
    for pupil in pupils if course.by_test else [best]:
        pupil.head.load_state_dict(pupil.best)
        (own,) = _told(listener, test, [pupil], sizes.see)
        setting = None if course.by_test else pupil.setting
        told.append((pupil, own, pupil.lesson.judged(own, test, setting)))
    winner, own, judged = min(told, key=lambda one: one[2].score)
    return Learnt(
        rate=winner.rate,
        dev={pupil.rate: pupil.score for pupil in pupils},
        judged=judged,
        told=own,
        weights=winner.best["layers"].double().softmax(0).cpu().numpy(),
        sizes=sizes.mean,
    )


def _told(
    listener: Listener,
    rows: Rows,
    pupils: Sequence[_Pupil],
    seen: Callable[[list[Tensor]], None] | None = None,
) -> list[list[Any]]:
    """What each pupil tells of each clip. seen: is shown the hidden states that they are told of."""
    told: list[list[Any]] = [[None] * len(rows) for _ in pupils]
    with torch.no_grad():
        for places, states in listener(rows):
            if seen is not None:
                seen(states)
            for pupil, own in zip(pupils, told, strict=True):
                pupil.head.eval()
                found = pupil.lesson.told(pupil.head, states, rows[places])
                for place, what in zip(places, found, strict=True):
                    own[place] = what
    return told


class _Sizes:
    """Mean length of each hidden state's vectors, over all frames that were seen."""

    def __init__(self, states: int) -> None:
        self.sums, self.frames = np.zeros(states), 0

    def see(self, states: Sequence[Tensor]) -> None:
        """Take in some clips, each (L, T, D)."""
        for one in states:
            self.sums += one.norm(dim=2).sum(1).double().cpu().numpy()
            self.frames += one.shape[1]

    @property
    def mean(self) -> NDArray[np.float64]:
        """(L,)."""
        return self.sums / self.frames


def _keep(folder: Path, identity: Mapping[str, Any], pupils: Sequence[_Pupil], step: int) -> None:
    """One file, so that all pupils' places are of the same step."""
    tensors: dict[str, Tensor] = {}
    for number, pupil in enumerate(pupils):
        tensors |= {f"{number}.now.{name}": value for name, value in pupil.head.state_dict().items()}
        tensors |= {f"{number}.best.{name}": value for name, value in pupil.best.items()}
        for key, state in pupil.optimiser.state_dict()["state"].items():
            tensors |= {f"{number}.adam.{key}.{name}": value for name, value in state.items()}
    best = [(pupil.score, pupil.setting) for pupil in pupils]
    keep(folder / CHECKPOINT, identity, tensors, {"step": step, "best": best})


def _go_on(folder: Path, identity: Mapping[str, Any], pupils: Sequence[_Pupil]) -> int:
    """Take up a checkpoint of this identity, if there is one that can be read; steps done."""
    found = kept(folder / CHECKPOINT, identity)
    if found is None:
        return 0
    tensors, told = found
    for number, (pupil, (score, setting)) in enumerate(zip(pupils, told["best"], strict=True)):
        device = next(pupil.head.parameters()).device
        pupil.head.load_state_dict(_part(tensors, f"{number}.now."))
        pupil.best = {name: value.to(device) for name, value in _part(tensors, f"{number}.best.").items()}
        pupil.score, pupil.setting = score, tuple(setting)
        adam: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, f"{number}.adam.").items():
            key, _, what = name.partition(".")
            adam.setdefault(int(key), {})[what] = value
        groups = pupil.optimiser.state_dict()["param_groups"]
        pupil.optimiser.load_state_dict({"state": adam, "param_groups": groups})
    return int(told["step"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
