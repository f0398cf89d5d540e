"""How much of what refinement can gain it gains: simulated listeners whose teacher is known.

Three people hear 15 minutes of training speech in a simulated scanner; the encoder to refine is the teacher
with its transformer's matrices shuffled. What is recovered is (refined - frozen) / (teacher - frozen): brain
scores on a test story of five minutes, each of a ridge fitted afresh. Three seeds, of everything random.

recovered_white: noise of AR(1) 0.4.
recovered_autocorrelated: of AR(1) 0.9, and as alike between targets as real resting BOLD is (brainspace's).
..._plain: the same data by what is published: the plain loss, AdamW at 3e-3.
..._stretch: as the first, in stretches of 60 s; what the simulated brain hears are windows.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _figures import show
from _steps import InMemory
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Configuration
from wav2bold.datasets.cleaning import clean
from wav2bold.datasets.noise import resting_noise
from wav2bold.datasets.shards import Bold, DatasetCard, Shards, StoryCard, SubjectCard
from wav2bold.datasets.simulate import brain_signal, slow_drift, speech_cache, with_room_tone
from wav2bold.datasets.speech import synthesised
from wav2bold.datasets.teacher import extractor, hear, make_teacher, perturbed
from wav2bold.datasets.windows import Windows, windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.drift import Drift
from wav2bold.trainables.encoder import Boundary, Encoder, digest_of
from wav2bold.trainables.hearing import hearing_of
from wav2bold.trainables.refine import Material, refine
from wav2bold.trainables.scores import brain_score, pearson
from wav2bold.trainables.stage1 import fit_head_in_noise, fit_noise_of

SEEDS = (0, 1, 2)
TR_S, HISTORY, SECONDS = 1.5, 6, 300.0
PEOPLE, TARGETS, SIGNAL = 3, 280, 0.6
STORIES = 5
BRAINSPACE, VOLUMES_AT_REST = "brainspace==0.3.0", 600
STRETCH: dict[str, Any] = {"context": "stretch", "stretch_s": 60.0}
PLAIN: dict[str, Any] = {"encoder_lr": 3e-3, "noise": "white"}
OURS: dict[str, Any] = {
    "optimiser": "muon",
    "encoder_lr": 0.02,
    "head_lr": 1e-3,
    "epochs": 8,
    "input_noise": 0.3,
}


def main() -> None:
    torch.set_flush_denormal(True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for figure, coefficient, alike in (
            ("recovered_white", 0.4, None),
            ("recovered_autocorrelated", 0.9, resting_correlation(folder)),
        ):
            for ending, options in (("", OURS), ("_plain", PLAIN), ("_stretch", OURS | STRETCH)):
                shares = [
                    recovered(folder / f"{coefficient}-{seed}", seed, coefficient, alike, options)
                    for seed in SEEDS
                ]
                show(figure + ending, shares, "share")


def recovered(
    folder: Path, seed: int, coefficient: float, alike: NDArray[np.float64] | None, options: Mapping[str, Any]
) -> float:
    """Share of the reachable gain. folder: of the store.  alike: (V, V) correlation of noise, or None."""
    shards, teacher, student = listeners(seed, coefficient, alike)
    store = ActivationStore(folder)
    *train, validation, test = shards.card.stories
    people = tuple(shards.card.subjects)
    some = {
        role: windows(shards, people, stories, HISTORY)
        for role, stories in (("train", train), ("validation", [validation]), ("test", [test]))
    }
    material = Material(student, shards, store, some["train"], some["validation"])
    configuration = Configuration(**{"history": HISTORY, **options})
    epochs = refine(material, configuration, seed)
    while True:
        try:
            report = next(epochs)
            print(f"  epoch {report.epoch}: loss {report.loss:.4f}, r {report.score:.4f}", file=sys.stderr)
        except StopIteration as ended:
            refined = ended.value
            break
    after = Encoder("refined", refined.model, student.extractor, digest_of(refined.model, student.extractor))
    frozen, gained, reachable = (
        ridge_score(encoder, shards, store, some["train"], some["test"], configuration)
        for encoder in (student, after, teacher)
    )
    share = (gained - frozen) / (reachable - frozen)
    print(
        f"seed {seed}, AR {coefficient}, {dict(options)}: frozen {frozen:.4f}, refined {gained:.4f}, "
        f"teacher {reachable:.4f}: {share:.3f}",
        file=sys.stderr,
        flush=True,
    )
    return share


def ridge_score(
    encoder: Encoder,
    shards: Shards,
    store: ActivationStore,
    train: Windows,
    test: Windows,
    configuration: Configuration,
) -> float:
    """Mean r on the test story of a ridge fitted afresh."""
    top = Boundary("layer", encoder.layers)
    features = []
    for part in (train, test):
        hearing = hearing_of(encoder, shards, store, part, configuration, top)
        features.append(Drift(part, shards.card.cleaning).removed(hearing.frozen_pooled))
    noise = {"noise": fit_noise_of(features[0], train, TR_S)} if configuration.noise == "ar" else {}
    head = fit_head_in_noise(features[0], train, TR_S, **noise)
    return brain_score(pearson(test.y, head.predict(features[1])))


def listeners(
    seed: int, coefficient: float, alike: NDArray[np.float64] | None
) -> tuple[InMemory, Encoder, Encoder]:
    """What three people's scanners recorded, the teacher that made it, and the student."""
    told = synthesised(STORIES, SECONDS, speech_cache())
    sounds = {
        story: with_room_tone(sound, np.random.default_rng([seed, 1, number]))
        for number, (story, sound) in enumerate(told.items())
    }
    teacher = make_teacher(next(iter(sounds.values())), seed)
    student = perturbed(teacher, ("attention", "feed_forward"), (0, 1), seed + 1)
    cleaning = Cleaning()
    times_s = np.arange(HISTORY, int(SECONDS / TR_S) + 1) * TR_S
    bold = {}
    mix = None if alike is None else np.linalg.cholesky(alike).T
    for number, (story, sound) in enumerate(sounds.items()):
        heard = hear(teacher, sound, times_s, TR_S, HISTORY)
        for person in range(PEOPLE):
            mixing = np.random.default_rng([seed, 2, person]).standard_normal((heard.shape[2], TARGETS))
            random = np.random.default_rng([seed, 3, person, number])
            noise = autoregression(len(heard), coefficient, random)
            noise = noise if mix is None else noise @ mix
            y = SIGNAL * brain_signal(heard, TR_S, mixing) + np.sqrt(1 - SIGNAL**2) * noise
            y = y + slow_drift(*y.shape, random)
            y = clean(np.asarray(1000 + 10 * y, np.float32), TR_S, cleaning)
            t = np.arange(len(y), dtype=np.int32)
            bold[f"sub-{person + 1}", story] = Bold(t, times_s, y)
    card = DatasetCard(
        tr_s=TR_S,
        space="none",
        subjects={
            f"sub-{person + 1}": SubjectCard(TARGETS, dict.fromkeys(sounds, 1)) for person in range(PEOPLE)
        },
        stories={story: StoryCard(SECONDS, f"{story} {seed}") for story in sounds},
        cleaning=cleaning.model_dump(mode="json"),
        inputs={},
        libraries={},
        digest=f"simulated {seed}",
    )
    encoders = [
        Encoder(name, model, extractor(), digest_of(model, extractor()))
        for name, model in (("teacher", teacher), ("student", student))
    ]
    return InMemory(Path("nowhere"), card, bold, sounds), encoders[0], encoders[1]


def autoregression(volumes: int, coefficient: float, random: np.random.Generator) -> NDArray[np.float64]:
    """AR(1) noise of unit variance, (volumes, TARGETS)."""
    noise = random.standard_normal((volumes + 100, TARGETS))
    for t in range(1, len(noise)):
        noise[t] = coefficient * noise[t - 1] + np.sqrt(1 - coefficient**2) * noise[t]
    return np.asarray(noise[100:])


def resting_correlation(folder: Path) -> NDArray[np.float64]:
    """(V, V) correlation between neighbouring vertices at rest."""
    fetch: Sequence[str] = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([*fetch, BRAINSPACE], check=True, stdout=sys.stderr)
    (wheel,) = folder.glob("brainspace-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "brainspace")
    path = next((folder / "brainspace").rglob("*lh*.mgz"))
    rest = resting_noise(path, VOLUMES_AT_REST, TARGETS, seed=0)
    return 0.99 * np.corrcoef(rest.T) + 0.01 * np.eye(TARGETS)


if __name__ == "__main__":
    main()
