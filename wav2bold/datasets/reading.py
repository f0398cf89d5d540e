"""Read all recordings, and draft their shards: what they hold, and which of them can't be used."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.agreement import (
    Disagreement,
    kept_targets,
    nothing_in_common,
    other_clocks,
    other_grids,
    other_sounds,
    sounds,
)
from wav2bold.datasets.jobs import scan_story
from wav2bold.datasets.layouts.choosing import Refuse
from wav2bold.datasets.memory import cleaning_bytes, reading_bytes
from wav2bold.datasets.recording import scan_run
from wav2bold.datasets.regions import read_regions
from wav2bold.datasets.runs import Run, numbered
from wav2bold.datasets.scan import RunScan
from wav2bold.datasets.shards import run_path, story_path
from wav2bold.datasets.single_writer import Writer
from wav2bold.datasets.tasks import each, memory_of, too_large
from wav2bold.datasets.wanted import Job, Scanned
from wav2bold.errors import DataError, UserError
from wav2bold.progress import Progress

MOST_TOLD = 20


def read_all(
    recordings: Path,
    runs: Sequence[Run],
    writer: Writer,
    cleaning: Cleaning,
    targets: Targets,
    progress: Progress,
    refuse: Refuse,
) -> Scanned | None:
    """Read every recording and sound, unless its shard says what it holds. None if none can be used.

    What is read is cleaned and drafted at once.
    """
    runs = _without(runs, other_clocks(recordings, runs), refuse)
    runs = _without(runs, other_sounds(runs), refuse)
    to_read = {run: reading_bytes(run) for run in runs}
    runs = _without(runs, too_large(runs, [*to_read.values()]), refuse)
    if not runs:
        return None
    audio = sounds(runs)
    regions = read_regions(runs[0], cleaning.mask, targets)
    jobs: list[tuple[str, Job]] = []
    of_stories: dict[str, int] = {}
    of_runs: dict[Run, int] = {}
    for run in runs:  # a sound before its first recording: tasks of several jobs are then alike
        if run.story not in of_stories:
            of_stories[run.story] = len(jobs)
            sound = story_path(writer.root, run.story)
            jobs.append((run.story, partial(scan_story, audio[run.story], run.story, sound, writer.draft)))
        of_runs[run] = len(jobs)
        shard = run_path(writer.root, run.subject, run.story, run.repeat)
        jobs.append((run.name, partial(scan_run, run, cleaning, targets, shard, writer.draft)))
    found = each("reading", jobs, progress, memory_of([to_read[run] for run in runs]), refuse)
    stories = {story: found[of_stories[story]] for story in audio if of_stories[story] in found}
    scans: dict[Run, RunScan] = {
        run: found[index] for run, index in of_runs.items() if index in found and run.story in stories
    }
    for disagreeing in (other_grids, nothing_in_common):
        agreeing = _without([*scans], disagreeing([*scans], [*scans.values()]), refuse)
        scans = {run: scans[run] for run in agreeing}
    sizes = {
        run: max(to_read[run], cleaning_bytes(scan.volumes, scan.candidates)) for run, scan in scans.items()
    }
    fitting = _without([*scans], too_large([*scans], [*sizes.values()]), refuse)
    if not fitting:
        return None
    audio = sounds(fitting)
    of_fitting = [scans[run] for run in fitting]
    return Scanned(
        recordings,
        numbered(fitting),
        of_fitting,
        [sizes[run] for run in fitting],
        audio,
        {story: stories[story] for story in audio},
        kept_targets(fitting, of_fitting),
        regions,
        cleaning,
        targets,
    )


def _without(runs: Sequence[Run], disagreeing: Iterable[Disagreement], refuse: Refuse) -> list[Run]:
    """The runs that agree; of the others `refuse` is told."""
    out = set()
    for run, error in disagreeing:
        refuse(run.name, error)
        out.add(run)
    return [run for run in runs if run not in out]


def nothing_left(failed: Sequence[tuple[str, UserError]]) -> UserError:
    """The mistake of recordings of which none can be used."""
    if len(failed) == 1:
        return failed[0][1]
    lines = "".join(f"\n  {name}: {error}" for name, error in failed[:MOST_TOLD])
    more = f"\n  and {len(failed) - MOST_TOLD} more" if len(failed) > MOST_TOLD else ""
    return DataError(f"none of the recordings can be used:{lines}{more}")
