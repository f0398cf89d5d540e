"""Measure subjects' noise ceilings on shards: the jobs, and what their results say."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.jobs import others_job, repeats_job
from wav2bold.datasets.runs import Run
from wav2bold.datasets.sources import OTHERS, REPEATS, Sources
from wav2bold.datasets.tables import from_others
from wav2bold.datasets.targets import target_ids
from wav2bold.datasets.wanted import Job, Scanned
from wav2bold.places import Place


def measuring_jobs(
    shards: Place,
    scanned: Scanned,
    told: Sources,
    subjects: Sequence[str],
) -> list[tuple[str, Job]]:
    """Name and job of each piece of work; `measured` makes ceilings of what the jobs give.

    shards: hold all targets that vary.
    """
    runs = scanned.runs
    if told.way == REPEATS:
        own: defaultdict[str, list[Run]] = defaultdict(list)
        for run in runs:
            own[run.subject].append(run)
        return [
            (subject, partial(repeats_job, shards, own[subject], told.stories, scanned.seconds))
            for subject in subjects
        ]
    if told.way == OTHERS:
        # equal numbers are one object: sent once a task, and not once a person
        known: dict[bytes, NDArray[np.int64]] = {}
        numbers = {
            subject: known.setdefault((ids := target_ids(keep, scanned.regions)).tobytes(), ids)
            for subject, keep in scanned.varying.items()
        }
        groups = [one for one in told.together if any(run.subject in subjects for run in one.runs)]
        return [
            (one.story, partial(others_job, shards, one, [numbers[run.subject] for run in one.runs]))
            for one in groups
        ]
    return []


def measured(
    told: Sources, subjects: Sequence[str], given: Sequence[Any]
) -> Mapping[str, NDArray[np.float32] | None]:
    """Ceilings of these subjects per target, from what the jobs gave; None where there is none."""
    if told.way == REPEATS:
        return dict(zip(subjects, given, strict=True))
    if told.way == OTHERS:
        return {subject: from_others(given, subject) for subject in subjects}
    return dict.fromkeys(subjects)
