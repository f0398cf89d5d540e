"""A small refinement: two listeners, three stories of 22 s, and a run of it to its end."""

from pathlib import Path

import numpy as np
from listeners import in_memory, speech, volumes

from wav2bold.config import Cleaning, Configuration, LayerRange, ParameterType
from wav2bold.datasets.windows import windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.refine import Material, Refined, Report, refine

TR_S, HISTORY, SECONDS = 1.0, 2, 22.0
SOUNDS = {name: speech(SECONDS, seed) for seed, name in enumerate(("ferry", "bakery", "library"))}
Unfrozen = dict[ParameterType, LayerRange | None]


def material(
    encoder: Encoder,
    folder: Path,
    cleaning: Cleaning | None = None,
    widths: tuple[int, int] = (3, 2),
    **roles: list[str],
) -> Material:
    """Two subjects; the second lacks a story. Their targets follow the sound's level, with noise."""
    random = np.random.default_rng(0)
    bold = {}
    for subject, width in zip(("sub-001", "sub-002"), widths, strict=True):
        for story, sound in SOUNDS.items():
            if (subject, story) == ("sub-002", "bakery"):
                continue
            level = np.abs(sound).reshape(int(SECONDS), -1).mean(1)
            level = np.append(0, (level - level.mean()) / level.std())[:, None]
            bold[subject, story] = volumes(level + random.standard_normal((len(level), width)), TR_S)
    options = {} if cleaning is None else {"cleaning": cleaning}
    shards = in_memory(dict.fromkeys(SOUNDS, SECONDS), bold, TR_S, SOUNDS, **options)
    roles = {"train": ["ferry", "bakery"], "validation": ["library"]} | roles
    subjects = ["sub-001", "sub-002"]
    return Material(
        encoder,
        shards,
        ActivationStore(folder),
        windows(shards, subjects, roles["train"], HISTORY),
        windows(shards, subjects, roles["validation"], HISTORY),
    )


def configuration(unfrozen: Unfrozen, **options: object) -> Configuration:
    return Configuration(
        **{
            "history": HISTORY,
            "unfrozen": unfrozen,
            "encoder_lr": 1e-3,
            "head_lr": 1e-3,
            "epochs": 2,
            "batch": 16,
            "warmup_steps": 2,
            "weight_decay": 0.01,
            "noise": "white",
            **options,
        }
    )


def run(
    some: Material, options: Configuration, seed: int = 0, checkpoint: Path | None = None
) -> tuple[list[Report], Refined]:
    reports, generator = [], refine(some, options, seed, checkpoint)
    while True:
        try:
            reports.append(next(generator))
        except StopIteration as stop:
            return reports, stop.value
