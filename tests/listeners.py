"""Speech-like sound, small encoders, and listeners whose truth is known: shards made without Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.signal import lfilter
from small_encoders import save_small

from wav2bold.config import Cleaning
from wav2bold.datasets import writing
from wav2bold.datasets.shards import (
    CARD_NAME,
    Bold,
    DatasetCard,
    Shards,
    StoryCard,
    SubjectCard,
    content_digest,
    open_shards,
    run_path,
    story_path,
    targets_path,
)

RATE_HZ = 16_000
NO_CLEANING = Cleaning(high_pass_s=None, detrend=False)


def speech(seconds: float, seed: int) -> NDArray[np.float32]:
    """Something that changes as speech does: voiced and hissing sounds of 50 to 200 ms, random formants."""
    random = np.random.default_rng([seed, 77])
    parts: list[NDArray[np.float64]] = []
    length = 0
    wanted = round(seconds * RATE_HZ)
    while length < wanted:
        samples = int(random.uniform(0.05, 0.2) * RATE_HZ)
        pitch_hz = random.uniform(90, 220)
        voice = (np.arange(samples) * pitch_hz / RATE_HZ % 1 < 0.1).astype(float)
        sound = voice if random.random() < 0.7 else random.standard_normal(samples) * 0.3
        for centre_hz, width_hz in zip(
            (random.uniform(250, 900), random.uniform(900, 2500), random.uniform(2500, 4500)),
            (80, 120, 200),
            strict=True,
        ):
            radius = np.exp(-np.pi * width_hz / RATE_HZ)
            angle = 2 * np.pi * centre_hz / RATE_HZ
            sound = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], sound)
        sound *= np.hanning(samples) * random.uniform(0.2, 1) / (np.sqrt(np.mean(sound**2)) + 1e-9)
        parts.append(sound)
        length += samples
    told = np.concatenate(parts)[:wanted]
    told += 0.02 * random.standard_normal(wanted)
    return (0.05 * told).astype(np.float32)


@dataclass(frozen=True)
class InMemory(Shards):
    """Shards that were never written: what a property test can make by the hundred.

    targets_told: by subject, columns of its table of targets; without, their ceilings are unknown.
    """

    told: Mapping[tuple[str, str], Bold] = field(default_factory=dict)
    sounds: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    targets_told: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def bold(self, subject: str, story: str) -> Bold:
        return self.told[subject, story]

    def audio(self, story: str) -> NDArray[np.float32]:
        return self.sounds[story]

    def target_table(self, subject: str, columns: Sequence[str] | None = None) -> pa.Table:
        count = self.card.subjects[subject].targets
        told = {"target": np.arange(count), "ceiling": np.full(count, np.nan)}
        table = pa.table(told | dict(self.targets_told.get(subject, {})))
        return table if columns is None else table.select(columns)


def card(
    seconds: Mapping[str, float],
    bold: Mapping[tuple[str, str], Bold],
    tr_s: float,
    cleaning: Cleaning = NO_CLEANING,
) -> DatasetCard:
    subjects = {
        subject: SubjectCard(
            next(bold[key].y.shape[1] for key in bold if key[0] == subject),
            {story: 1 for who, story in bold if who == subject},
        )
        for subject in dict.fromkeys(subject for subject, _ in bold)
    }
    return DatasetCard(
        tr_s=tr_s,
        space="fsaverage5",
        subjects=subjects,
        stories={
            story: StoryCard(length, content_digest(story, length)) for story, length in seconds.items()
        },
        cleaning=cleaning.model_dump(mode="json"),
        inputs={},
        libraries={},
        digest="made for a test",
    )


def in_memory(
    seconds: Mapping[str, float],
    bold: Mapping[tuple[str, str], Bold],
    tr_s: float,
    sounds: Mapping[str, NDArray[np.float32]] | None = None,
    cleaning: Cleaning = NO_CLEANING,
    targets: Mapping[str, Mapping[str, Any]] | None = None,
) -> InMemory:
    """bold: by (subject, story).  targets: as in `InMemory`."""
    told = card(seconds, bold, tr_s, cleaning)
    return InMemory(Path("nowhere"), told, bold, sounds or {}, targets or {})


def on_disk(
    root: Path,
    sounds: Mapping[str, NDArray[np.float32]],
    bold: Mapping[tuple[str, str], Bold],
    tr_s: float,
    cleaning: Cleaning = NO_CLEANING,
) -> Shards:
    """The same, written and opened as `prepare` and `open_shards` do."""
    made = card({story: len(sound) / RATE_HZ for story, sound in sounds.items()}, bold, tr_s, cleaning)
    writing.claim(root)
    for story, sound in sounds.items():
        writing.write_story(story_path(root, story), sound, {})
    for (subject, story), run in bold.items():
        writing.write_run(run_path(root, subject, story, 1), run, "float32", {})
    for subject, listener in made.subjects.items():
        table = pd.DataFrame({"target": np.arange(listener.targets), "ceiling": np.nan})
        writing.write_targets(targets_path(root, subject), table, {})
    (root / CARD_NAME).write_text(made.to_json())
    return open_shards(root)


def volumes(y: NDArray[np.floating], tr_s: float, onset_s: float = 0.0) -> Bold:
    """A recording whose volume t is acquired at t * tr_s - onset_s in the story."""
    t = np.arange(len(y), dtype=np.int32)
    return Bold(t, t * tr_s - onset_s, np.asarray(y, np.float32))


def noise_listeners(
    stories: Sequence[str], seconds: float, tr_s: float, widths: Mapping[str, int], seed: int = 0
) -> dict[tuple[str, str], Bold]:
    """White noise for each subject (of so many targets) and story."""
    random = np.random.default_rng(seed)
    count = int(seconds / tr_s + 1e-9) + 1
    return {
        (subject, story): volumes(random.standard_normal((count, width)), tr_s)
        for subject, width in widths.items()
        for story in stories
    }


def save_small_wav2vec2(
    folder: Path, family: str = "base", do_normalize: bool = True, seed: int = 0, **options: object
) -> Path:
    """A small wav2vec2, like the base ones (group norm, post-norm) or the large (layer norms, pre-norm)."""
    return save_small(folder, f"wav2vec2-{family}", do_normalize, seed, **options)
