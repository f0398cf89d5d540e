"""Recordings to shards: `wav2bold prepare`. The only file of this room that knows Ray.

Two passes of Ray Data over the recordings. The first only reads: it finds every mistake while nothing has
been written, and which targets vary in all of a subject's recordings. The second cleans and writes what is
missing or changed. The card, `dataset.json`, is written last.
"""

import logging
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Split, Targets
from wav2bold.datasets.agreement import check_clocks, doubts, kept_targets, sounds
from wav2bold.datasets.card import has_card, make_card
from wav2bold.datasets.jobs import others_job, repeats_job, run_job, story_job, targets_job
from wav2bold.datasets.layouts.known import find
from wav2bold.datasets.regions import Regions, read_regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan, pack, scan_run, scan_story, unpack
from wav2bold.datasets.shards import (
    CARD_NAME,
    DatasetCard,
    content_digest,
    run_path,
    story_path,
    targets_path,
)
from wav2bold.datasets.sources import OTHERS, REPEATS, Sources, check_ceilings, sources
from wav2bold.datasets.splits import default_split
from wav2bold.datasets.tables import COLUMNS_VERSION, above, from_others, table_identities, taking_part
from wav2bold.datasets.targets import target_ids
from wav2bold.datasets.writing import check_ours, claim, read_metadata, remove_others
from wav2bold.errors import DataError, UserError
from wav2bold.options import write_whole
from wav2bold.progress import Progress, silent

Job = Callable[[], Any]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    written, kept: shards (sounds, recordings, tables of targets) written now, and found as they should be.
    removed: files of recordings that are gone.  dropped: candidate targets that did not vary, per subject.
    layout: how the recordings were read.  left_out: a sentence for each kind that was passed over.
    doubts: what is odd and may be a mistake, a line each.
    """

    card: DatasetCard
    written: int
    kept: int
    removed: int
    dropped: Mapping[str, int]
    layout: str
    left_out: tuple[str, ...]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Shard:
    """A file that must be there, the digest of all it is made from, and the job that writes it."""

    path: Path
    name: str
    digest: str
    job: Job

    @property
    def is_stale(self) -> bool:
        return bool(read_metadata(self.path).get("digest") != self.digest)


def prepare(
    recordings: Path,
    out: Path,
    cleaning: Cleaning = Cleaning(),  # noqa: B008  # frozen
    progress: Progress = silent,
    targets: Targets = Targets(),  # noqa: B008  # frozen
    split: Split | None = None,
    layout: str | None = None,
    space: str | None = None,
) -> Prepared:
    """Write the shards of all recordings under a folder; what is already there and right stays untouched.

    split: whose test stories take no part in noise ceilings; None for the split that a new study begins with.
    layout, space: as in `layouts.known.find`.
    Needs a Ray that is connected, and both folders on a disk that all its nodes share.
    Raises DataError for mistakes in the recordings, nearly all of them before anything is written.
    """
    assert ray.is_initialized()
    recordings, out = recordings.resolve(), out.resolve()
    cleaning = cleaning if targets.mask is None else cleaning.model_copy(update={"mask": targets.mask})
    check_ours(out)
    found_runs = find(recordings, layout, space)
    runs = found_runs.runs
    check_clocks(recordings, runs)
    audio = sounds(runs)
    regions = read_regions(runs[0], cleaning.mask, targets)
    shards = [run_path(out, run.subject, run.story, run.repeat) for run in runs]
    jobs: list[tuple[str, Job]] = [
        (story, partial(scan_story, path, story_path(out, story))) for story, path in audio.items()
    ]
    jobs += [
        (run.name, partial(scan_run, run, cleaning, targets, shard))
        for run, shard in zip(runs, shards, strict=True)
    ]
    found = _each("reading", jobs, progress)
    stories: dict[str, StoryScan] = dict(zip(audio, found, strict=False))
    scans: list[RunScan] = found[len(audio) :]
    varying = kept_targets(runs, scans)
    seconds = {story: scan.seconds for story, scan in stories.items()}
    told = sources(runs, scans, seconds, cleaning, split or default_split(audio), targets)
    check_ceilings(told, targets)

    def recorded(keep: Mapping[str, NDArray[np.bool_]]) -> list[_Shard]:
        made = []
        packed = {subject: pack(one) for subject, one in keep.items()}
        for run, scan, path in zip(runs, scans, shards, strict=True):
            digest = content_digest(scan.key, packed[run.subject])
            job = partial(run_job, run, cleaning, targets, keep[run.subject], path, scan, digest)
            made.append(_Shard(path, run.name, digest, job))
        return made

    def written(what: str, group: Sequence[_Shard]) -> set[Path]:
        if group:
            claim(out)
        _each(what, [(shard.name, shard.job) for shard in group], progress)
        return {shard.path for shard in group}

    whole = recorded(varying)
    identities = table_identities(runs, {shard.name: shard.digest for shard in whole}, seconds, told, targets)
    tables = {subject: targets_path(out, subject) for subject in varying}
    digests = {subject: content_digest(COLUMNS_VERSION, one) for subject, one in identities.items()}
    said = {subject: read_metadata(path) for subject, path in tables.items()}
    missing = [subject for subject in varying if said[subject].get("digest") != digests[subject]]
    measure = partial(_measured, out, runs, told, missing, varying, regions, seconds, progress)

    kept, done = varying, set[Path]()
    ceilings: dict[str, NDArray[np.float32] | None] = {}
    if targets.min_ceiling is not None:
        needed = taking_part(runs, told, missing)  # with all their targets, which are then measured
        done |= written("measuring", [one for one in whole if one.name in needed and one.is_stale])
        ceilings = measure()
        kept = {
            subject: above(subject, keep, regions, ceilings[subject], targets.min_ceiling)
            if subject in ceilings
            else unpack(said[subject]["kept"], len(keep))
            for subject, keep in varying.items()
        }
    heard = [
        _Shard(path := story_path(out, story), story, scan.key, partial(story_job, audio[story], path, scan))
        for story, scan in stories.items()
    ]
    heard += whole if kept is varying else recorded(kept)
    named = [*((shard.name, shard.digest) for shard in heard), *identities.items()]
    card = make_card(recordings, runs, stories, scans, kept, regions, cleaning, targets, named)
    stale = [shard for shard in heard if shard.is_stale]
    if stale or missing or not has_card(out, card):
        claim(out)
    done |= written("writing", stale)
    if targets.min_ceiling is None:  # a ceiling is measured on recordings already written
        ceilings = measure()
    late = []
    for subject in missing:
        own = [run for run in runs if run.subject == subject]
        best = ceilings[subject]
        if best is not None:
            best = best[np.isin(target_ids(varying[subject], regions), target_ids(kept[subject], regions))]
        parts = (out, own, cleaning, targets, kept[subject], best, told.way, digests[subject])
        late.append(_Shard(tables[subject], subject, digests[subject], partial(targets_job, *parts)))
    done |= written("writing", late)
    wanted = {*(shard.path for shard in heard), *tables.values()}
    removed = remove_others(out, wanted)
    if not (out / CARD_NAME).is_file():
        write_whole(out / CARD_NAME, card.to_json())
    dropped = {subject: int((~keep).sum()) for subject, keep in varying.items()}
    odd = (*doubts(runs, stories), *([told.hint] if told.hint else []))
    return Prepared(
        card,
        len(done),
        len(wanted) - len(done),
        removed,
        dropped,
        found_runs.layout,
        found_runs.left_out,
        odd,
    )


def _measured(
    out: Path,
    runs: Sequence[Run],
    told: Sources,
    subjects: Sequence[str],
    keep: Mapping[str, NDArray[np.bool_]],
    regions: Regions | None,
    seconds: Mapping[str, float],
    progress: Progress,
) -> dict[str, NDArray[np.float32] | None]:
    """Noise ceilings of these subjects per target, from shards of all their targets; None where none is.

    keep: (candidates,) bool for each subject, those of its targets.
    """
    if told.way == REPEATS:
        jobs = [
            (
                subject,
                partial(
                    repeats_job, out, [run for run in runs if run.subject == subject], told.stories, seconds
                ),
            )
            for subject in subjects
        ]
        return dict(zip(subjects, _each("measuring", jobs, progress), strict=True))
    if told.way == OTHERS:
        # equal numbers are one object: sent once a task, and not once a person
        known: dict[bytes, NDArray[np.int64]] = {}
        numbers = {
            subject: known.setdefault((ids := target_ids(one, regions)).tobytes(), ids)
            for subject, one in keep.items()
        }
        groups = [one for one in told.together if any(run.subject in subjects for run in one.runs)]
        compared: list[tuple[str, Job]] = [
            (one.story, partial(others_job, out, one, [numbers[run.subject] for run in one.runs]))
            for one in groups
        ]
        shares = _each("measuring", compared, progress)
        return {subject: from_others(shares, subject) for subject in subjects}
    return dict.fromkeys(subjects)


def _each(what: str, jobs: Sequence[tuple[str, Job]], progress: Progress) -> list[Any]:
    """What every job gives, in order; they run as Ray tasks of one CPU each.

    Raises DataError once all have run, if any of them met a user's mistake.
    """
    if not jobs:
        return []
    rows = [{"index": index, "job": pickle.dumps(job)} for index, (_, job) in enumerate(jobs)]
    results: dict[int, Any] = {}
    with _quiet_ray_data():
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(_run_job, num_cpus=1)
        for row in done.iter_rows():
            results[row["index"]] = pickle.loads(row["result"])  # noqa: S301  # made by _run_job
            progress(what, len(results), len(jobs))
    failures = [(jobs[i][0], results[i]) for i in sorted(results) if isinstance(results[i], UserError)]
    if len(failures) == 1:
        raise failures[0][1]
    if failures:
        lines = "".join(f"\n  {name}: {error}" for name, error in failures)
        raise DataError(f"{len(failures)} recordings and sounds can't be used:{lines}")
    return [results[index] for index in range(len(jobs))]


def _run_job(row: dict[str, Any]) -> dict[str, Any]:
    """In a Ray worker. A user's mistake is a result: Ray would bury it in a traceback and stop the others."""
    result: Any
    try:
        result = pickle.loads(row["job"])()  # noqa: S301  # made by _each
    except UserError as error:
        result = error
    return {"index": row["index"], "result": pickle.dumps(result)}


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Ray Data without its own bars and plans: the caller shows progress."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
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
