"""People who hear a few short stories as a small encoder does; on disk, with a study."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from listeners import on_disk, speech

from wav2bold.config import Configuration, Split, Study
from wav2bold.datasets import writing
from wav2bold.datasets.shards import Bold, Shards, targets_path
from wav2bold.datasets.simulate import brain_signal, scanner_noise
from wav2bold.datasets.splits import Stories
from wav2bold.datasets.teacher import extractor, hear, make_teacher

TR_S, HISTORY, CEILING, TARGETS, SECONDS = 1.5, 4, 0.8, 12, 150
STORIES = Stories(("s0", "s1", "s2"), ("s3",), ("s4", "s5"))
CONFIGURATION = Configuration(history=HISTORY, noise="white")


@dataclass(frozen=True)
class World:
    """A study and its data.

    shards: sub-001; sub-002, whose targets are sub-001's, backwards, and who lacks story s1; sub-003, whose
    targets hear something else in the same places; sub-null, whose BOLD is noise.  encoder: the brains'.
    """

    folder: Path
    shards: Shards
    encoder: Path
    study: Path


def world(folder: Path) -> World:
    sounds = {f"s{number}": speech(SECONDS, number) for number in range(6)}
    teacher = make_teacher(speech(60, 9), seed=0)
    encoder = folder / "teacher"
    teacher.save_pretrained(encoder)
    extractor().save_pretrained(encoder)
    random = np.random.default_rng(7)
    mixing, other = random.standard_normal((2, 32, TARGETS))
    t = np.arange(HISTORY, round(SECONDS / TR_S) + 1, dtype=np.int32)
    bold = {}
    for story, sound in sounds.items():
        heard = hear(teacher, sound, t * TR_S, TR_S, HISTORY)
        signals = {
            "sub-001": brain_signal(heard, TR_S, mixing),
            "sub-002": brain_signal(heard, TR_S, mixing[:, ::-1]),
            "sub-003": brain_signal(heard, TR_S, other),
        }
        for subject, signal in signals.items():
            noise = scanner_noise(len(t), TARGETS, random)
            y = CEILING * signal + np.sqrt(1 - CEILING**2) * noise
            bold[subject, story] = Bold(t, t * TR_S, y.astype(np.float32))
        rest = scanner_noise(len(t), TARGETS, random).astype(np.float32)
        bold["sub-null", story] = Bold(t, t * TR_S, rest)
    del bold["sub-002", "s1"]
    shards = on_disk(folder / "shards", sounds, bold, TR_S)
    vertex = np.arange(TARGETS)
    for subject in shards.card.subjects:
        table = pd.DataFrame(
            {
                "target": vertex,
                "hemisphere": "L",
                "vertex": vertex[::-1] if subject == "sub-002" else vertex,
                "ceiling": CEILING,
                "label": 1 + (vertex >= 4),
                "name": np.where(vertex >= 4, "A1", "V1"),
            }
        )
        writing.write_targets(targets_path(shards.root, subject), table, {})
    study = Study(
        name="hearers",
        shards=shards.root,
        encoder=str(encoder),
        split=Split(validation=STORIES.validation, test=STORIES.test),
        results=folder,
        configuration=CONFIGURATION,
        search={"space": {"history": {"low": HISTORY, "high": HISTORY}}},
    )
    study.save(folder / "study.yaml")
    return World(folder, shards, encoder, folder / "study.yaml")
