"""Measure subjects' noise ceilings on shards: the jobs, and what their results say."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.jobs import others_job, repeats_job
from wav2bold.datasets.sources import OTHERS, REPEATS, Sources
from wav2bold.datasets.tables import from_others
from wav2bold.datasets.targets import target_ids
from wav2bold.datasets.wanted import Job, Scanned
from wav2bold.places import Place


def measuring_jobs(
    scanned: Scanned,
    told: Sources,
    subjects: Sequence[str],
    shards: Mapping[str, Place],
) -> dict[str, Job]:
    """Name and job of each piece of work; `measured` makes ceilings of what the jobs give.

    shards: where that of each recording lies, by its name; they hold all targets that vary.
    """
    if told.way == REPEATS:
        heard: defaultdict[str, defaultdict[str, list[Place]]] = defaultdict(lambda: defaultdict(list))
        for run in scanned.runs:
            if run.subject in subjects and run.story in told.stories:
                heard[run.subject][run.story].append(shards[run.name])
        jobs: dict[str, Job] = {}
        for subject, of_story in heard.items():
            repeated = {story: places for story, places in of_story.items() if len(places) > 1}
            if repeated:
                jobs[subject] = partial(repeats_job, repeated, scanned.seconds)
        return jobs
    if told.way == OTHERS:
        # equal numbers are one object: sent once a task, and not once a person
        known: dict[bytes, NDArray[np.int64]] = {}
        numbers = {
            subject: known.setdefault((ids := target_ids(keep, scanned.regions)).tobytes(), ids)
            for subject, keep in scanned.varying.items()
        }
        groups = [one for one in told.together if any(run.subject in subjects for run in one.runs)]
        return {
            f"{one.story} {number}": partial(
                others_job,
                one,
                [shards[run.name] for run in one.runs],
                [numbers[run.subject] for run in one.runs],
            )
            for number, one in enumerate(groups)
        }
    return {}


def measuring_bytes(scanned: Scanned, told: Sources) -> int:
    """Memory that the largest of these jobs takes, beside the worker's own.

    Of repeats, all recordings of a subject as float32 and as float64; of others, one person's as it is stored
    and as float32, and the sum of all people's.
    """
    numbers = [scan.volumes * scan.candidates for scan in scanned.scans]
    if told.way != REPEATS:
        return (4 + 4 + 4) * max(numbers)
    heard: defaultdict[str, int] = defaultdict(int)
    for run, count in zip(scanned.runs, numbers, strict=True):
        if run.story in told.stories:
            heard[run.subject] += count
    return (4 + 8) * max(heard.values(), default=0)


def measured(
    told: Sources, subjects: Sequence[str], given: Mapping[str, Any]
) -> Mapping[str, NDArray[np.float32] | None]:
    """Ceilings of these subjects per target, from what the jobs gave; None where there is none."""
    if told.way == REPEATS:
        return {subject: given.get(subject) for subject in subjects}
    if told.way == OTHERS:
        return {subject: from_others([*given.values()], subject) for subject in subjects}
    return dict.fromkeys(subjects)
