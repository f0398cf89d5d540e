"""A step of stage 2 on one GPU: how fast, how well it uses the card, and beside the plain loop.

Needs torch, transformers, numpy, pyarrow and what `wav2bold.trainables` imports. On a machine without a GPU
it runs on the processor at a small size, and says so: those figures show that it runs, nothing else.

gpu_windows_per_s_*: windows of 9 s per second of whole steps, optimiser and all, from the second epoch on.
gpu_utilisation_*: floating-point operations of the model in a step (forward and backward, as torch counts
them) over what the card's bf16 matrix product of 8192 x 8192 x 8192 does in the same time.
gpu_peak_gb_*: the most memory that a step holds; gpu_peak_ratio_*: over that of the plain loop.
gpu_speedup_*: against the loop that published code runs: every window through the whole encoder at every
step, in bf16 with the same attention and the fused AdamW, audio on the card already.
all: attention and feed-forward of all layers unfrozen; top2: of the upper two.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from _figures import show
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from wav2bold.config import Cleaning, Configuration
from wav2bold.datasets.shards import Bold, DatasetCard, Shards, StoryCard, SubjectCard
from wav2bold.datasets.windows import windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.drift import Drift
from wav2bold.trainables.encoder import Encoder, digest_of
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.noise import Clock, NoiseModel
from wav2bold.trainables.parameter_types import unfrozen_names
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.stage2 import Stage2
from wav2bold.trainables.torch_head import Criterion
from wav2bold.trainables.unfreezing import unfreeze

TR_S, HISTORY = 1.5, 6
REPEATS = 5
STEPS = 10
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


BASE = Size(12, 768, 512, 128, 2, 600.0, 2000)
SMALL = Size(4, 64, 32, 8, 1, 60.0, 50)


@dataclass(frozen=True)
class InMemory(Shards):
    """Shards that were never written."""

    told: Mapping[tuple[str, str], Bold] = field(default_factory=dict)
    sounds: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def bold(self, subject: str, story: str) -> Bold:
        return self.told[subject, story]

    def audio(self, story: str) -> NDArray[np.float32]:
        return self.sounds[story]


def main() -> None:
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    size = BASE if gpu else SMALL
    say(torch.cuda.get_device_name() if gpu else "no GPU: on the processor, at a small size")
    rate = matrix_rate(device)
    encoder, shards = made(size, device)
    compiled = "--compile" in sys.argv
    with tempfile.TemporaryDirectory() as name:
        for variant, layers in (("all", (0, size.layers - 1)), ("top2", (size.layers - 2, size.layers - 1))):
            options = Configuration(
                history=HISTORY,
                unfrozen=dict.fromkeys(KINDS, layers),
                batch=size.batch,
                epochs=1000,
                compile=compiled,
            )
            measure(variant, Path(name), encoder, shards, options, rate)


def measure(
    variant: str, folder: Path, encoder: Encoder, shards: Shards, options: Configuration, rate: float
) -> None:
    """All figures of one choice of what is unfrozen."""
    device = encoder.device
    held = held_bytes(device)
    ours, operations = our_step(folder, encoder, shards, options)
    peak = peak_bytes(ours, device) - held
    held = held_bytes(device)
    plain = plain_step(encoder, shards, options)
    plains_peak = peak_bytes(plain, device) - held
    seconds = [(timed(ours, device), timed(plain, device)) for _ in range(REPEATS)]
    name = f"gpu_{{}}_{variant}" if device.type == "cuda" else f"cpu_small_{{}}_{variant}"
    show(name.format("windows_per_s"), [options.batch / mine for mine, _ in seconds], "1/s")
    show(name.format("utilisation"), [operations / mine / rate for mine, _ in seconds], "share")
    show(name.format("speedup"), [peers / mine for mine, peers in seconds], "x")
    if device.type == "cuda":
        show(name.format("peak_gb"), [peak / 1e9], "GB")
        show(name.format("peak_ratio"), [peak / plains_peak], "x")


def held_bytes(device: torch.device) -> int:
    """Memory of the GPU that is in use."""
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


def peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    """The most memory of the GPU in a step that is not the first."""
    for _ in range(2):
        step()
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated()


def our_step(
    folder: Path, encoder: Encoder, shards: Shards, options: Configuration
) -> tuple[Callable[[], None], float]:
    """A step of stage 2 as `refine` does it, and the model's floating-point operations in it."""
    some = windows(shards, list(shards.card.subjects), list(shards.card.stories), HISTORY)
    unfrozen, counting = (unfreeze(encoder, options) for _ in range(2))
    hearing = Hearing(encoder, shards, ActivationStore(folder), some, HISTORY, unfrozen.boundary)
    drift = Drift(some, shards.card.cleaning)
    features = drift.removed(hearing.frozen_pooled)
    random = np.random.default_rng(0)
    weight = (0.01 * random.standard_normal((features.shape[1], some.y.shape[1]))).astype(np.float32)
    zeros = np.zeros(some.y.shape[1], np.float32)
    head = Head(features.mean(0), features.std(0) + 1e-3, weight, zeros, zeros + 1000)
    noise = NoiseModel(0.5 ** np.arange(9.0), np.array([0.5, *([0.0] * 7)]))
    clock = Clock.of(some, TR_S)
    criterion = Criterion(some.y, some.subject, clock, noise, "mse", None, encoder.device)
    rows = np.arange(options.batch)
    below = hearing.below(rows)
    with FlopCounterMode(display=False) as counted:
        with half(encoder.device):
            pooled = hearing.pooled(counting.model, below)
        pooled.float().sum().backward()
    training = Stage2(unfrozen.model, hearing, head, criterion, drift, options, 0)
    steps = endless(len(some), options.batch)

    def step() -> None:
        training.step(next(steps))

    return step, float(counted.get_total_flops())


def endless(volumes: int, batch: int) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Steps of blocks of 8 volumes, over and over."""
    random = np.random.default_rng(0)
    blocks = np.arange(volumes // 8 * 8).reshape(-1, 8)
    while True:
        order = random.permutation(len(blocks))
        for first in range(0, len(order) - batch // 8 + 1, batch // 8):
            yield tuple(blocks[number] for number in order[first : first + batch // 8])


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


def timed(step: Callable[[], None], device: torch.device) -> float:
    """Seconds of a step, on average over some."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    steps = STEPS if device.type == "cuda" else 1
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / steps


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations per second of a large bf16 matrix product."""
    side = 8192 if device.type == "cuda" else 512
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = min(timed(lambda: torch.mm(one, other), device) for _ in range(5))
    rate = 2 * side**3 / seconds
    say(f"bf16 matrix product: {rate / 1e12:.3g} TFLOP/s")
    return rate


def half(device: torch.device) -> AbstractContextManager[object]:
    """Bfloat16 on a GPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def made(size: Size, device: torch.device) -> tuple[Encoder, Shards]:
    """An encoder of wav2vec2-base's shape with random weights, and one person who hears noise."""
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
        ("sub-1", story): Bold(
            t, t * TR_S, random.standard_normal((volumes, size.targets)).astype(np.float32)
        )
        for story in stories
    }
    card = DatasetCard(
        tr_s=TR_S,
        space="none",
        subjects={"sub-1": SubjectCard(size.targets, dict.fromkeys(stories, 1))},
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


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
