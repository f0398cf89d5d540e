"""What one task of `prepare` does with a sound, a table of targets, or noise ceilings."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.audio import SAMPLE_RATE_HZ, read_audio, read_story
from wav2bold.datasets.ceiling import others_correlation, shared_share, subject_ceiling
from wav2bold.datasets.recording import Drafts, steadiness_of
from wav2bold.datasets.regions import read_regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import StoryScan, as_metadata, pack, remembered, story_key
from wav2bold.datasets.shards import read_run
from wav2bold.datasets.sources import Together
from wav2bold.datasets.targets import target_table
from wav2bold.datasets.writing import write_story, write_targets
from wav2bold.places import Place

Shares = dict[str, tuple[NDArray[np.float64], int]]
"""By subject: share of variance that others' recordings share, per target, and over how many volumes."""


def scan_story(audio: Path, story: str, shard: Place, drafts: Drafts) -> StoryScan:
    """Read and draft a story's sound, unless its shard or its draft says what it holds.

    Raises DataError if the sound can't be read, or is silent throughout.
    """
    inputs, key = story_key(audio)
    draft = drafts("sound", key, story)
    known = remembered(StoryScan, inputs, key, (shard, draft))
    if known is not None:
        return known
    sound = read_story(audio)
    digest = hashlib.blake2b(sound.samples.tobytes(), digest_size=16).hexdigest()
    scan = StoryScan(inputs, key, digest, len(sound.samples) / SAMPLE_RATE_HZ, sound.doubts)
    _write_story(draft, sound.samples, scan)
    return scan


def story_job(audio: Path, draft: Place, scan: StoryScan) -> None:
    """Draft a story's sound again."""
    _write_story(draft, read_audio(audio), scan)


def _write_story(path: Place, samples: NDArray[np.float32], scan: StoryScan) -> None:
    write_story(path, samples, {"digest": scan.key, "scan": as_metadata(scan)})


def repeats_job(repeated: Mapping[str, Sequence[Place]], seconds: Mapping[str, float]) -> NDArray[np.float32]:
    """One subject's ceiling per target. repeated: the shards of the recordings of each story."""
    read = [[read_run(path) for path in paths] for paths in repeated.values()]
    return subject_ceiling(read, [seconds[story] for story in repeated]).astype(np.float32)


def others_job(together: Together, shards: Sequence[Place], targets: Sequence[NDArray[np.int64]]) -> Shares:
    """What each person's recording of a story shares with the others'. targets: numbers of each one's."""

    def read(shard: Place, rows: tuple[int, int]) -> NDArray[np.float32]:
        return read_run(shard).y[slice(*rows)]

    reads = [partial(read, shard, rows) for shard, rows in zip(shards, together.rows, strict=True)]
    start, stop = together.rows[0]
    return {
        run.subject: (shared_share(r, others), stop - start)
        for run, (r, others) in zip(together.runs, others_correlation(reads, targets), strict=True)
    }


def targets_job(
    shards: Sequence[Place],
    draft: Place,
    runs: Sequence[Run],
    cleaning: Cleaning,
    targets: Targets,
    keep: NDArray[np.bool_],
    ceiling: NDArray[np.float32] | None,
    way: str | None,
    digest: str,
) -> None:
    """Where one subject's targets are, their ceiling, and how steady the scanner was there.

    shards: of each of the subject's runs.  draft: where the table is written.
    ceiling: (targets,), by `way`; None where there is none.
    """
    regions = read_regions(runs[0], cleaning.mask, targets)
    table = target_table(runs[0], cleaning.mask, keep, regions)
    table["ceiling"] = np.full(len(table), np.nan, np.float32) if ceiling is None else ceiling
    table["ceiling_from"] = pd.array([None if ceiling is None else way] * len(table), dtype="string")
    table["tsnr"] = np.mean(
        [steadiness_of(shard, run, cleaning, targets, keep) for shard, run in zip(shards, runs, strict=True)],
        axis=0,
        dtype=np.float32,
    )
    write_targets(draft, table, {"digest": digest, "kept": pack(keep)})
