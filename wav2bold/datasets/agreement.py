"""What recordings must agree on before they can share shards, and what about them is odd."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan, exact, unpack
from wav2bold.errors import DataError


def check_clocks(recordings: Path, runs: Sequence[Run]) -> None:
    """One TR for all, and repeats of a story whose volumes fall on the same times in it.

    Raises DataError naming the two recordings that differ.
    """
    first = runs[0]
    for run in runs:
        if run.tr_s != first.tr_s:
            raise DataError(
                f"{recordings}: TR is {first.tr_s:g} s in {first.name} and {run.tr_s:g} s in {run.name}",
                "prepare recordings of one TR at a time",
            )
    by_story = sorted(runs, key=lambda run: (run.subject, run.story, run.repeat))
    for _, group in groupby(by_story, key=lambda run: (run.subject, run.story)):
        one, *others = group
        for run in others:
            apart = exact(run.onset_s) - exact(one.onset_s)
            if apart % exact(run.tr_s):
                raise DataError(
                    f"{run.name}: onset is {run.onset_s:g} s, in the first recording {one.onset_s:g} s: "
                    f"no whole number of volumes of {run.tr_s:g} s apart",
                    "check onset in their events files; repeats can only be averaged on one clock",
                )


def sounds(runs: Sequence[Run]) -> dict[str, Path]:
    """The sound of each story, in order of name. Raises DataError if one name means two sounds."""
    paths: dict[str, Path] = {}
    for run in sorted(runs, key=lambda run: run.story):
        known = paths.setdefault(run.story, run.audio)
        if known != run.audio:
            raise DataError(
                f"{run.audio}: {known} has the same name", f"rename one of the stories {run.story}"
            )
    return paths


def kept_targets(runs: Sequence[Run], scans: Sequence[RunScan]) -> dict[str, NDArray[np.bool_]]:
    """Which candidates vary in every recording of a subject: (candidates,) bool for each subject.

    Raises DataError if a subject's recordings lie on different grids, or none varies in all.
    """
    kept: dict[str, NDArray[np.bool_]] = {}
    first: dict[str, tuple[Run, RunScan]] = {}
    for run, scan in zip(runs, scans, strict=True):
        other, alike = first.setdefault(run.subject, (run, scan))
        if scan.grid != alike.grid or scan.candidates != alike.candidates:
            raise DataError(
                f"{run.bold[0]}: {scan.grid}, {other.bold[0]} has {alike.grid}",
                f"bring all recordings of {run.subject} into one space",
            )
        keep = unpack(scan.packed, scan.candidates)
        kept[run.subject] = keep & kept.get(run.subject, keep)
    for subject, keep in kept.items():
        if not keep.any():
            raise DataError(
                f"{subject}: no target varies in all recordings", "check the mask, or leave one out"
            )
    return kept


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
