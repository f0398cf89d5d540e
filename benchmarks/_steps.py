"""A step of stage 2 as `refine` does it, and as the loop that published code runs: for the benchmarks."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from wav2bold.config import Cleaning, Configuration
from wav2bold.datasets.shards import Bold, DatasetCard, Shards, StoryCard, SubjectCard
from wav2bold.datasets.windows import windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.drift import Drift
from wav2bold.trainables.encoder import Encoder, digest_of
from wav2bold.trainables.hearing import AnyHearing, hearing_of
from wav2bold.trainables.noise import Clock, NoiseModel
from wav2bold.trainables.parameter_types import unfrozen_names
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.stage2 import Stage2
from wav2bold.trainables.team import ALONE, Team
from wav2bold.trainables.torch_head import Criterion
from wav2bold.trainables.unfreezing import unfreeze

TR_S, HISTORY = 1.5, 6
KINDS = ("attention", "feed_forward")


@dataclass(frozen=True)
class Size:
    """Of the encoder: layers, width, convolutions. Windows in a step; stories of so many seconds; targets."""

    layers: int
    width: int
    channels: int
    batch: int
    stories: int
    seconds: float
    targets: int


@dataclass(frozen=True)
class InMemory(Shards):
    """Shards that were never written."""

    told: Mapping[tuple[str, str], Bold] = field(default_factory=dict)
    sounds: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def bold(self, subject: str, story: str) -> Bold:
        return self.told[subject, story]

    def audio(self, story: str) -> NDArray[np.float32]:
        return self.sounds[story]


def our_step(
    folder: Path, encoder: Encoder, shards: Shards, options: Configuration, team: Team = ALONE
) -> tuple[Callable[[], None], float]:
    """A step of stage 2 as `refine` does it, and the model's floating-point operations in it."""
    some = windows(shards, list(shards.card.subjects), list(shards.card.stories), HISTORY)
    unfrozen, counting = (unfreeze(encoder, options) for _ in range(2))
    hearing = hearing_of(encoder, shards, ActivationStore(folder), some, options, unfrozen.boundary)
    drift = Drift(some, shards.card.cleaning)
    features = drift.removed(hearing.frozen_pooled)
    random = np.random.default_rng(0)
    weight = (0.01 * random.standard_normal((features.shape[1], some.y.shape[1]))).astype(np.float32)
    zeros = np.zeros(some.y.shape[1], np.float32)
    head = Head(features.mean(0), features.std(0) + 1e-3, weight, zeros, zeros + 1000)
    noise = NoiseModel(0.5 ** np.arange(9.0), np.array([0.5, *([0.0] * 7)]))
    clock = Clock.of(some, TR_S)
    criterion = Criterion(some.y, some.subject, clock, noise, "mse", None, encoder.device)
    rows = hearing.together(np.arange(len(some)))[0][: options.batch]
    below = hearing.below(rows)
    with FlopCounterMode(display=False) as counted:
        with half(encoder.device):
            pooled = hearing.pooled(counting.model, below, rows)
        pooled.float().sum().backward()
    training = Stage2(unfrozen.model, hearing, head, criterion, drift, options, 0, team=team)
    steps = endless(hearing, options.batch)

    def step() -> None:
        training.step(next(steps))

    return step, float(counted.get_total_flops())


def endless(hearing: AnyHearing, batch: int) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Steps of whole blocks, over and over."""
    random = np.random.default_rng(0)
    whole = hearing.most_blocks(8)[1]
    while True:
        blocks = [block for block in hearing.blocks(8, random) if len(block) == whole]
        assert blocks, f"{len(hearing.windows)} volumes are too few for a block"
        order = random.permutation(len(blocks))
        at_once = max(batch // whole, 1)
        for first in range(0, len(order) - at_once + 1, at_once):
            yield tuple(blocks[number] for number in order[first : first + at_once])


def plain_step(encoder: Encoder, shards: Shards, options: Configuration) -> Callable[[], None]:
    """The same step by the plain loop."""
    device = encoder.device
    some = windows(shards, list(shards.card.subjects), list(shards.card.stories), HISTORY)
    length = round(HISTORY * TR_S * 16_000)
    sounds = {story: torch.from_numpy(shards.audio(story)).to(device) for story in shards.card.stories}
    y_NV = torch.from_numpy(some.y).to(device)
    model = copy.deepcopy(encoder.model)
    names = set(unfrozen_names(encoder, options.unfrozen))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    head = torch.nn.Linear(HISTORY * model.config.hidden_size, some.y.shape[1]).to(device)
    parameters = [each for each in model.parameters() if each.requires_grad] + list(head.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=device.type == "cuda")
    random = np.random.default_rng(0)

    def step() -> None:
        rows = random.choice(len(some), options.batch, replace=False)
        audio = torch.stack(
            [sounds[some.story[row]][some.stop[row] - length : some.stop[row]] for row in rows]
        )
        with half(device):
            hidden = model(audio).last_hidden_state
            pooled = torch.nn.functional.adaptive_avg_pool1d(hidden.transpose(1, 2).float(), HISTORY)
            loss = torch.nn.functional.mse_loss(head(pooled.flatten(1)).float(), y_NV[rows])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return step


def timed(step: Callable[[], None], device: torch.device, steps: int = 1) -> float:
    """Seconds of a step, on average over some."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / steps


def half(device: torch.device) -> AbstractContextManager[object]:
    """Bfloat16 on a GPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def made(size: Size, device: torch.device, people: int = 1) -> tuple[Encoder, Shards]:
    """An encoder of wav2vec2-base's shape with random weights, and people who hear noise."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        num_hidden_layers=size.layers,
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        conv_dim=(size.channels,) * 7,
        num_attention_heads=max(size.width // 64, 2),
        num_conv_pos_embeddings=128,
    )
    model = Wav2Vec2Model(config).eval().requires_grad_(False)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    digest = digest_of(model, extractor)
    model.to(device)
    random = np.random.default_rng(0)
    stories = [f"story{number}" for number in range(size.stories)]
    volumes = int(size.seconds / TR_S) + 1
    t = np.arange(volumes, dtype=np.int32)
    bold = {
        (f"sub-{person}", story): Bold(
            t, t * TR_S, random.standard_normal((volumes, size.targets)).astype(np.float32)
        )
        for person in range(people)
        for story in stories
    }
    card = DatasetCard(
        tr_s=TR_S,
        space="none",
        subjects={
            f"sub-{person}": SubjectCard(size.targets, dict.fromkeys(stories, 1)) for person in range(people)
        },
        stories={story: StoryCard(size.seconds, story) for story in stories},
        cleaning=Cleaning().model_dump(mode="json"),
        inputs={},
        libraries={},
        digest="noise",
    )
    sounds = {
        story: (0.05 * random.standard_normal(round(size.seconds * 16_000))).astype(np.float32)
        for story in stories
    }
    return Encoder("random", model, extractor, digest), InMemory(Path("nowhere"), card, bold, sounds)
