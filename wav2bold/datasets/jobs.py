"""What one task of `prepare` writes: a sound, a recording, or a subject's table of targets."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Cleaning
from wav2bold.datasets.audio import read_audio
from wav2bold.datasets.bold import candidates, read_bold
from wav2bold.datasets.ceiling import subject_ceiling
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan, as_metadata, clean_run, exact
from wav2bold.datasets.shards import Bold, read_run, run_path
from wav2bold.datasets.writing import write_run, write_story, write_targets
from wav2bold.places import Place


def story_job(audio: Path, path: Place, scan: StoryScan) -> None:
    """Write a story's sound."""
    write_story(path, read_audio(audio), {"digest": scan.key, "scan": as_metadata(scan)})


def run_job(
    run: Run, cleaning: Cleaning, keep: NDArray[np.bool_], path: Place, scan: RunScan, digest: str
) -> None:
    """Clean one recording and write it. keep: (candidates,) bool, the targets of its subject."""
    raw = read_bold(run, cleaning.mask, cleaning.smoothing_fwhm_mm)[:, keep]
    y = clean_run(run, raw, cleaning)
    t = np.arange(cleaning.drop_first, len(raw), dtype=np.int32)
    time_s = story_times_s(t, run.tr_s, run.onset_s)
    write_run(path, Bold(t, time_s, y), cleaning.dtype, {"digest": digest, "scan": as_metadata(scan)})


def story_times_s(t: NDArray[np.int32], tr_s: float, onset_s: float) -> NDArray[np.float64]:
    """When each volume of a scan was acquired, in seconds of the story: t * tr_s - onset_s, rounded once."""
    return np.array([float(int(volume) * exact(tr_s) - exact(onset_s)) for volume in t])


def targets_job(
    shards: Place,
    path: Place,
    runs: Sequence[Run],
    seconds: Mapping[str, float],
    cleaning: Cleaning,
    keep: NDArray[np.bool_],
    digest: str,
) -> None:
    """Where one subject's targets are, and their ceiling from the recordings already in `shards`."""
    heard: defaultdict[str, list[Place]] = defaultdict(list)
    for run in runs:
        heard[run.story].append(run_path(shards, run.subject, run.story, run.repeat))
    repeated = {story: paths for story, paths in heard.items() if len(paths) > 1}
    table = candidates(runs[0], cleaning.mask)[keep].reset_index(drop=True)
    table.insert(0, "target", np.arange(len(table), dtype=np.int32))
    table["ceiling"] = np.full(len(table), np.nan, np.float32)
    if repeated:
        stories = [[read_run(path) for path in paths] for paths in repeated.values()]
        best = subject_ceiling(stories, [seconds[story] for story in repeated])
        table["ceiling"] = best.astype(np.float32)
    write_targets(path, table, {"digest": digest})
