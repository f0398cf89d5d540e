"""Work done as Ray tasks, many recordings at once: the only file of this room that knows Ray."""

import logging
import math
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.data

from wav2bold.datasets.agreement import Disagreement
from wav2bold.datasets.layouts.choosing import Refuse, stop
from wav2bold.datasets.memory import WORKER_BYTES
from wav2bold.datasets.runs import Run
from wav2bold.datasets.wanted import Job
from wav2bold.errors import DataError, StorageError, UserError
from wav2bold.places import FULL, refusal
from wav2bold.progress import Progress

TASKS_PER_CPU = 4
"""Enough that none waits long for the others at the end."""
JOBS_PER_TASK = 4
"""At most. A task costs its worker and us 12 ms each, and a short sound or a table of targets 20."""


def each(
    what: str,
    jobs: Sequence[tuple[str, Job]],
    progress: Progress,
    max_bytes: int,
    refuse: Refuse = stop,
) -> dict[int, Any]:
    """What every job gives, by its index, in order; they run as Ray tasks of one CPU each, some in one task.

    max_bytes: memory that Ray sets aside for each task, which does one job after another.
    refuse: told of each job that met a user's mistake, in the order of jobs; it gives nothing. `stop` is told
    of the first that is met.
    Raises StorageError as soon as a job does: the others would meet the same.
    """
    assert ray.is_initialized()
    if not jobs:
        return {}
    rows = [{"index": index, "job": pickle.dumps(job)} for index, (_, job) in enumerate(jobs)]
    results: dict[int, Any] = {}
    refused: dict[int, UserError] = {}
    with _quiet_ray_data():
        done = ray.data.from_items(rows, override_num_blocks=_tasks(len(rows))).map(
            _run_job, num_cpus=1, memory=max_bytes
        )
        for count, row in enumerate(done.iter_rows(), start=1):
            index, result = row["index"], pickle.loads(row["result"])  # noqa: S301  # made by _run_job
            if isinstance(result, StorageError):
                raise result
            if isinstance(result, UserError):
                refused[index] = result
                if refuse is stop:
                    stop(jobs[index][0], result)
            else:
                results[index] = result
            progress(what, count, len(jobs))
    for index, error in sorted(refused.items()):
        refuse(jobs[index][0], error)
    return dict(sorted(results.items()))


def _tasks(jobs: int) -> int:
    cpus = int(ray.cluster_resources().get("CPU", 1))
    return max(min(jobs, TASKS_PER_CPU * cpus), math.ceil(jobs / JOBS_PER_TASK))


def memory_of(sizes: Sequence[int]) -> int:
    """Memory for any of some jobs, bytes: Ray Data knows one figure for all tasks of a step.

    sizes: what each takes beside its worker's own.
    Never more than the largest machine has, for which Ray would wait for ever.
    """
    return min(max(sizes, default=0) + WORKER_BYTES, _largest_machine())


def too_large(runs: Sequence[Run], sizes: Sequence[int]) -> Iterator[Disagreement]:
    """Recordings that no machine's memory can hold. sizes: what each takes, bytes."""
    largest = _largest_machine()
    for run, size in zip(runs, sizes, strict=True):
        if size > largest:
            yield (
                run,
                DataError(
                    f"{run.name}: takes about {size / 1e9:.3g} GB of memory, the largest machine offers Ray "
                    f"{largest / 1e9:.3g} GB",
                    "work on a machine with more, or cut the recording down first",
                ),
            )


def _largest_machine() -> int:
    return int(max(node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]))


def _run_job(row: dict[str, Any]) -> dict[str, Any]:
    """In a Ray worker. A user's mistake is a result: Ray would bury it in a traceback and stop the others."""
    result: Any
    try:
        result = pickle.loads(row["job"])()  # noqa: S301  # made by each
    except UserError as error:
        result = error
    except OSError as error:
        if error.errno not in FULL:
            raise
        result = refusal(error.filename, error)
    return {"index": row["index"], "result": pickle.dumps(result)}


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Ray Data without its own bars and plans: the caller shows progress."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.issue_detectors_config.detectors = []  # what a worker held for an earlier task isn't this one's
    # It logs its plans as news, and that it shows no bars as a warning
    loggers = {"ray.data": logging.WARNING, "ray.data._internal.progress": logging.ERROR}
    before = {name: logging.getLogger(name).level for name in loggers}
    for name, level in loggers.items():
        logging.getLogger(name).setLevel(level)
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
