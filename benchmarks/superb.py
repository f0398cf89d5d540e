"""What SUPERB costs beside a loop that hears every batch again.

`superb_pooled_speedup`: one learning rate of ks. Time of an update that hears its batch, 32 words of 1 s with
wav2vec2-base's shape, over that of an update on stored means with its share of hearing once: 51,094
words that train by 200,000 updates.
`superb_grid_cost`: asr. Time of an update of seven learning rates' heads over that of one alone; both hear
their batch with wav2vec2-base's shape, unpadded, each utterance by itself. On a GPU where there is one, with
the published batch of 32; else with a batch of 4, and one core as a task has it.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from _figures import show
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.superb import asr
from wav2bold.trainables.superb.clips import Clip, sound_of
from wav2bold.trainables.superb.hidden import pooled
from wav2bold.trainables.superb.learning import Course, learn
from wav2bold.trainables.superb.librispeech import Spoken
from wav2bold.trainables.superb.pooled_heads import answers, beginning, losses
from wav2bold.trainables.superb.protocol import RATES, Options
from wav2bold.trainables.superb.stacked_adam import StackedAdam
from wav2bold.trainables.superb.utterances import Fold

REPEATS = 5
BATCH, CLASSES, CLIPS = 32, 12, 96
TRAIN_WORDS, UPDATES = 51_094, 200_000
"""Of Speech Commands v0.01: what trains, and how long."""
UTTERANCE_S, WORDS = 12.3, 33
"""Of LibriSpeech's train-clean-100, on average."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder / "encoder")
        Wav2Vec2FeatureExtractor().save_pretrained(folder / "encoder")
        encoder = load_encoder(str(folder / "encoder"))
        clips = noises(folder, CLIPS, 1.0)
        ratios = [measured(encoder, clips, folder, repeat) for repeat in range(REPEATS + 1)][1:]
        show("superb_pooled_speedup", ratios, "x")
        show("superb_grid_cost", grid_costs(folder), "x")


def noises(folder: Path, count: int, seconds: float) -> list[Clip]:
    """Sound files, so many and so long."""
    random = np.random.default_rng(0)
    clips = [Clip(folder / f"{seconds:g}-{number}.wav") for number in range(count)]
    for clip in clips:
        soundfile.write(clip.path, 0.1 * random.standard_normal(round(16_000 * seconds)), 16_000)
    return clips


def measured(encoder: Encoder, clips: list[Clip], folder: Path, repeat: int) -> float:
    """Time of an update that hears its batch, over that of one on stored means with its share of hearing."""
    begun = time.perf_counter()
    batch = np.stack([sound_of(clip) for clip in clips[:BATCH]])
    heard_again(encoder, batch)
    again = time.perf_counter() - begun

    begun = time.perf_counter()
    means = pooled(encoder, ActivationStore(folder / f"store{repeat}"), clips, folder)
    hearing = (time.perf_counter() - begun) / len(clips) * TRAIN_WORDS / UPDATES
    parameters = beginning(encoder.layers + 1, 768, CLASSES, 1, 0, torch.device("cpu"))
    adam = StackedAdam(parameters, torch.tensor([1e-4]), 1.0)
    random = np.random.default_rng(repeat)
    labels = torch.zeros(BATCH, 1, dtype=torch.long)
    steps = []
    for _ in range(50):
        begun = time.perf_counter()
        seen = torch.from_numpy(means.means(random.choice(len(clips), BATCH)))
        losses(answers(parameters, seen), labels, (CLASSES,)).sum().backward()
        adam.step()
        steps.append(time.perf_counter() - begun)
    step = statistics.median(steps)
    print(
        f"  hearing each batch {again:.2f} s an update; stored means {1000 * step:.1f} ms, "
        f"and {1000 * hearing:.1f} ms its share of hearing once",
        file=sys.stderr,
    )
    return again / (step + hearing)


def grid_costs(folder: Path) -> list[float]:
    """Time of an update of seven heads over that of one, of as many pairs of runs as REPEATS."""
    gpu = torch.cuda.is_available()
    torch.set_num_threads(torch.get_num_threads() if gpu else 1)
    encoder = load_encoder(str(folder / "encoder"), "cuda" if gpu else "cpu")
    batch, steps = (32, 4) if gpu else (4, 3)
    clips = noises(folder, batch * steps + 1, UTTERANCE_S)
    found = []
    for repeat in range(REPEATS + gpu):
        one, seven = (update_s(encoder, clips, batch, steps, rates, folder) for rates in ((1e-4,), RATES))
        print(f"  an update of one head {one:.2f} s, of seven {seven:.2f} s", file=sys.stderr)
        if repeat >= gpu:  # the first on a GPU loads its libraries
            found.append(seven / one)
    return found


def update_s(
    encoder: Encoder, clips: list[Clip], batch: int, steps: int, rates: tuple[float, ...], folder: Path
) -> float:
    """Median time of one update of a head at each of these rates, seconds."""
    words = tuple(("SPEECH",) * WORDS for _ in clips)
    last = np.array([len(clips) - 1])
    spoken = Spoken(folder, tuple(clips), words, Fold(np.arange(batch * steps), last, last))
    begun: list[float] = []

    def rows(step: int) -> np.ndarray:
        begun.append(time.perf_counter())
        return np.arange(batch * step, batch * (step + 1))

    course = Course(folder, spoken.clips, spoken.fold, spoken.names[last], rows)
    lesson = replace(asr.lesson(folder, spoken, Options()), updates=steps, every=steps)
    with tempfile.TemporaryDirectory() as places:
        learn(encoder, course, [lesson], rates, 0, Path(places), {}, ActivationStore(Path(places)))
    return statistics.median(np.diff(begun))


def heard_again(encoder: Encoder, batch_BS: np.ndarray) -> None:
    """One update of the plain loop: hear the batch, weigh, project, pool, classify, step."""
    weights = nn.Parameter(torch.zeros(encoder.layers + 1))
    project, classify = nn.Linear(768, 256), nn.Linear(256, CLASSES)
    parameters = [weights, *project.parameters(), *classify.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-4)
    with torch.no_grad():
        states = encoder.model(torch.from_numpy(batch_BS), output_hidden_states=True).hidden_states
    summed = (weights.softmax(0)[:, None, None, None] * torch.stack(states)).sum(0)
    told = classify(project(summed).mean(1))
    nn.functional.cross_entropy(told, torch.zeros(BATCH, dtype=torch.long)).backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()


if __name__ == "__main__":
    main()
