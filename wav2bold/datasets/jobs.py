"""What one task of `prepare` does: write a sound, a recording or a table of targets, or measure ceilings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.audio import read_audio
from wav2bold.datasets.bold import read_bold
from wav2bold.datasets.ceiling import others_correlation, shared_share, subject_ceiling
from wav2bold.datasets.cleaning import steady
from wav2bold.datasets.regions import read_regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan, as_metadata, clean_run, exact, pack
from wav2bold.datasets.shards import Bold, read_run, run_path
from wav2bold.datasets.sources import Together
from wav2bold.datasets.targets import (
    pack_tsnr,
    target_table,
    to_candidates,
    to_targets,
    tsnr,
    unpack_tsnr,
)
from wav2bold.datasets.writing import read_metadata, write_run, write_story, write_targets
from wav2bold.places import Place

Shares = dict[str, tuple[NDArray[np.float64], int]]
"""By subject: share of variance that others' recordings share, per target, and over how many volumes."""


def story_job(audio: Path, path: Place, scan: StoryScan) -> None:
    """Write a story's sound."""
    write_story(path, read_audio(audio), {"digest": scan.key, "scan": as_metadata(scan)})


def run_job(
    run: Run,
    cleaning: Cleaning,
    targets: Targets,
    keep: NDArray[np.bool_],
    path: Place,
    scan: RunScan,
    digest: str,
) -> None:
    """Clean one recording and write it. keep: (candidates,) bool, those of its subject's targets."""
    raw = read_targets(run, cleaning, targets, keep)
    y = clean_run(run, raw, cleaning)
    kept = steady(len(raw), cleaning)
    t = np.arange(kept.start, kept.stop, dtype=np.int32)
    time_s = story_times_s(t, run.tr_s, run.onset_s)
    metadata = {"digest": digest, "scan": as_metadata(scan), "tsnr": pack_tsnr(tsnr(raw[kept]))}
    write_run(path, Bold(t, time_s, y), cleaning.dtype, metadata)


def read_targets(
    run: Run, cleaning: Cleaning, targets: Targets, keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """A recording's targets before cleaning: (volumes, targets)."""
    recorded = read_bold(run, cleaning.mask, cleaning.smoothing_fwhm_mm)
    regions = read_regions(run, cleaning.mask, targets)
    return to_targets(to_candidates(recorded, regions), keep, regions)


def story_times_s(t: NDArray[np.int32], tr_s: float, onset_s: float) -> NDArray[np.float64]:
    """When each volume of a scan was acquired, in seconds of the story: t * tr_s - onset_s, rounded once."""
    return np.array([float(int(volume) * exact(tr_s) - exact(onset_s)) for volume in t])


def repeats_job(
    shards: Place, runs: Sequence[Run], stories: Sequence[str], seconds: Mapping[str, float]
) -> NDArray[np.float32] | None:
    """One subject's ceiling per target from the repeats of these stories; None if it heard none twice.

    runs: all of the subject's; their shards are read.
    """
    heard: defaultdict[str, list[Place]] = defaultdict(list)
    for run in runs:
        heard[run.story].append(run_path(shards, run.subject, run.story, run.repeat))
    repeated = {story: paths for story, paths in heard.items() if len(paths) > 1 and story in stories}
    if not repeated:
        return None
    read = [[read_run(path) for path in paths] for paths in repeated.values()]
    return subject_ceiling(read, [seconds[story] for story in repeated]).astype(np.float32)


def others_job(shards: Place, together: Together, targets: Sequence[NDArray[np.int64]]) -> Shares:
    """What each person's recording of a story shares with the others'. targets: numbers of each one's."""

    def read(run: Run, rows: tuple[int, int]) -> NDArray[np.float32]:
        return read_run(run_path(shards, run.subject, run.story, run.repeat)).y[slice(*rows)]

    reads = [partial(read, run, rows) for run, rows in zip(together.runs, together.rows, strict=True)]
    start, stop = together.rows[0]
    return {
        run.subject: (shared_share(r, others), stop - start)
        for run, (r, others) in zip(together.runs, others_correlation(reads, targets), strict=True)
    }


def targets_job(
    shards: Place,
    path: Place,
    runs: Sequence[Run],
    cleaning: Cleaning,
    targets: Targets,
    keep: NDArray[np.bool_],
    ceiling: NDArray[np.float32] | None,
    way: str | None,
    digest: str,
) -> None:
    """Where one subject's targets are, their ceiling, and how steady the scanner was there.

    shards: where the subject's recordings were written.  path: where the table goes.
    ceiling: (targets,), by `way`; None where there is none.
    """
    regions = read_regions(runs[0], cleaning.mask, targets)
    table = target_table(runs[0], cleaning.mask, keep, regions)
    table["ceiling"] = np.full(len(table), np.nan, np.float32) if ceiling is None else ceiling
    table["ceiling_from"] = pd.array([None if ceiling is None else way] * len(table), dtype="string")
    table["tsnr"] = np.mean(
        [_tsnr(shards, run, cleaning, targets, keep) for run in runs], axis=0, dtype=np.float32
    )
    write_targets(path, table, {"digest": digest, "kept": pack(keep)})


def _tsnr(
    shards: Place, run: Run, cleaning: Cleaning, targets: Targets, keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """As the recording's shard says; measured, where the shard is from before shards said it."""
    said = read_metadata(run_path(shards, run.subject, run.story, run.repeat)).get("tsnr")
    if said is not None:
        return unpack_tsnr(said)
    raw = read_targets(run, cleaning, targets, keep)
    return tsnr(raw[steady(len(raw), cleaning)])
