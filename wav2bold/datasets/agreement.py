"""What recordings must agree on before they can share shards, and what about them is odd."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan, exact, unpack
from wav2bold.errors import DataError

Disagreement = tuple[Run, DataError]
"""A recording that can't be with the others, and why."""


def other_clocks(recordings: Path, runs: Sequence[Run]) -> Iterator[Disagreement]:
    """Recordings of another TR than most, or with volumes between those of the story's first hearing."""
    if not runs:
        return
    usual_s = Counter(run.tr_s for run in runs).most_common(1)[0][0]
    usual = next(run for run in runs if run.tr_s == usual_s)
    first: dict[tuple[str, str], Run] = {}
    for run in sorted(runs, key=lambda run: (run.subject, run.story, run.repeat)):
        if run.tr_s != usual_s:
            yield (
                run,
                DataError(
                    f"{recordings}: TR is {usual_s:g} s in {usual.name} and {run.tr_s:g} s in {run.name}",
                    "prepare recordings of one TR at a time",
                ),
            )
            continue
        one = first.setdefault((run.subject, run.story), run)
        apart = exact(run.onset_s) - exact(one.onset_s)
        if apart % exact(run.tr_s):
            yield (
                run,
                DataError(
                    f"{run.name}: onset is {run.onset_s:g} s, in the first recording {one.onset_s:g} s: "
                    f"no whole number of volumes of {run.tr_s:g} s apart",
                    "check onset in their events files; repeats can only be averaged on one clock",
                ),
            )


def other_sounds(runs: Sequence[Run]) -> Iterator[Disagreement]:
    """Recordings whose story has the name of another recording's, and is another sound."""
    known: dict[str, Path] = {}
    for run in sorted(runs, key=lambda run: run.story):
        first = known.setdefault(run.story, run.audio)
        if first != run.audio:
            yield (
                run,
                DataError(
                    f"{run.audio}: {first} has the same name", f"rename one of the stories {run.story}"
                ),
            )


def sounds(runs: Sequence[Run]) -> dict[str, Path]:
    """The sound of each story, in order of name."""
    return {run.story: run.audio for run in sorted(runs, key=lambda run: run.story)}


def other_grids(runs: Sequence[Run], scans: Sequence[RunScan]) -> Iterator[Disagreement]:
    """Recordings on another grid than most of their subject's."""
    lie: defaultdict[str, list[tuple[Run, tuple[str, int]]]] = defaultdict(list)
    for run, scan in zip(runs, scans, strict=True):
        lie[run.subject].append((run, (scan.grid, scan.candidates)))
    for subject, own in lie.items():
        usual = Counter(grid for _, grid in own).most_common(1)[0][0]
        other = next(run for run, grid in own if grid == usual)
        for run, grid in own:
            if grid != usual:
                yield (
                    run,
                    DataError(
                        f"{run.bold[0]}: {grid[0]}, {other.bold[0]} has {usual[0]}",
                        f"bring all recordings of {subject} into one space",
                    ),
                )


def kept_targets(runs: Sequence[Run], scans: Sequence[RunScan]) -> dict[str, NDArray[np.bool_]]:
    """Which candidates vary in every recording of a subject: (candidates,) bool for each subject."""
    kept: dict[str, NDArray[np.bool_]] = {}
    for run, scan in zip(runs, scans, strict=True):
        keep = unpack(scan.packed, scan.candidates)
        kept[run.subject] = keep & kept.get(run.subject, keep)
    return kept


def nothing_in_common(runs: Sequence[Run], scans: Sequence[RunScan]) -> Iterator[Disagreement]:
    """Recordings of subjects of whom no target varies in all."""
    silent = {subject for subject, keep in kept_targets(runs, scans).items() if not keep.any()}
    for run in runs:
        if run.subject in silent:
            yield (
                run,
                DataError(
                    f"{run.subject}: no target varies in all recordings", "check the mask, or leave one out"
                ),
            )


def doubts(runs: Sequence[Run], stories: Mapping[str, StoryScan]) -> list[str]:
    """What is odd about the sounds, a line each with the file's name: clipped, silent, shorter than heard."""
    told = []
    for story, path in sounds(runs).items():
        told += [f"{path}: {doubt}" for doubt in stories[story].doubts]
        heard_s, name = max(
            ((run.duration_s or 0.0, run.name) for run in runs if run.story == story),
            key=lambda pair: pair[0],
        )
        seconds = stories[story].seconds
        if heard_s > seconds + runs[0].tr_s:
            told.append(
                f"{path}: is {seconds:g} s long, {name} heard {heard_s:g} s of it by its events file; "
                "volumes after the sound's end are not used"
            )
    return told
