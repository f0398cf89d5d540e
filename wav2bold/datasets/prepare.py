"""Recordings to shards: `wav2bold prepare`. The only file of this room that knows Ray.

Two passes of Ray Data over the recordings. The first only reads: it finds every mistake while nothing has
been written, and which targets vary in all of a subject's recordings. The second cleans and writes what is
missing or changed. The card, `dataset.json`, is written last. `single_writer` keeps two of us apart.
"""

import logging
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from wav2bold.datasets.layouts.known import find
from wav2bold.datasets.measuring import measured, measuring_jobs
from wav2bold.datasets.memory import WORKER_BYTES, cleaning_bytes, reading_bytes
from wav2bold.datasets.regions import read_regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import scan_run, scan_story, unpack
from wav2bold.datasets.shards import (
    CARD_NAME,
    DatasetCard,
    content_digest,
    run_path,
    story_path,
    targets_path,
)
from wav2bold.datasets.single_writer import Writer, single_writer
from wav2bold.datasets.sources import Sources, check_ceilings, sources
from wav2bold.datasets.splits import default_split
from wav2bold.datasets.tables import COLUMNS_VERSION, above, table_identities, taking_part
from wav2bold.datasets.wanted import (
    Job,
    Scanned,
    Shard,
    recordings_wanted,
    said_by,
    sounds_wanted,
    stale_paths,
    stale_shards,
    tables_wanted,
)
from wav2bold.datasets.writing import check_ours, claim, remove_others
from wav2bold.errors import DataError, UserError
from wav2bold.options import write_whole
from wav2bold.places import Place, put_whole, remove
from wav2bold.progress import Progress, silent

FINISHING = 3
"""How often files that another writer has overwritten are written again."""


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


@dataclass
class _Work:
    """Writing into a folder of shards, which is claimed, once, before its first file changes."""

    writer: Writer
    progress: Progress
    claimed: bool = False
    written: set[Place] = field(default_factory=set)

    def claim(self) -> None:
        if not self.claimed:  # a second time would take a store back from who has begun since
            claim(self.writer.root, self.writer.token)
            self.claimed = True

    def write(self, what: str, shards: Sequence[Shard]) -> None:
        if not shards:
            return
        self.claim()
        jobs = [(shard.name, shard.job) for shard in shards]
        memory = _memory(jobs, [shard.size for shard in shards])
        publish = self.writer.publish
        _each(what, jobs, self.progress, memory, lambda index: publish(shards[index].path))
        self.written |= {shard.path for shard in shards}


def prepare(
    recordings: Path,
    out: Place,
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
    Needs a Ray that is connected, and both folders on a disk that all its nodes share; `out` may also be a
    URL that they all reach. While another `prepare` has the folder, it waits.
    Raises DataError for mistakes in the recordings, nearly all of them before anything is written.
    """
    assert ray.is_initialized()
    recordings, out = recordings.resolve(), out.resolve() if isinstance(out, Path) else out
    cleaning = cleaning if targets.mask is None else cleaning.model_copy(update={"mask": targets.mask})
    check_ours(out)
    with single_writer(out, progress) as writer:
        check_ours(out)
        found = find(recordings, layout, space)
        scanned = _scan(recordings, found.runs, out, cleaning, targets, progress)
        told = sources(
            scanned.runs,
            scanned.scans,
            scanned.seconds,
            cleaning,
            split or default_split(scanned.audio),
            targets,
        )
        check_ceilings(told, targets)
        work = _Work(writer, progress)
        card, wanted = _bring_up_to_date(scanned, told, work)
        if work.claimed and not isinstance(out, Path):
            for _ in range(FINISHING):
                if not stale_paths(wanted):
                    break
                card, wanted = _bring_up_to_date(scanned, told, work)
        removed = remove_others(out, set(wanted))
        if work.claimed:
            _finish(out, card, writer)
    odd = (*doubts(scanned.runs, scanned.stories), *([told.hint] if told.hint else []))
    return Prepared(
        card,
        len(work.written),
        len(wanted) - len(work.written),
        removed,
        {subject: int((~keep).sum()) for subject, keep in scanned.varying.items()},
        found.layout,
        found.left_out,
        odd,
    )


def _scan(
    recordings: Path,
    runs: Sequence[Run],
    out: Place,
    cleaning: Cleaning,
    targets: Targets,
    progress: Progress,
) -> Scanned:
    """Read every recording and sound, unless its shard says what it holds."""
    check_clocks(recordings, runs)
    audio = sounds(runs)
    regions = read_regions(runs[0], cleaning.mask, targets)
    jobs: list[tuple[str, Job]] = [
        (story, partial(scan_story, path, story_path(out, story))) for story, path in audio.items()
    ]
    for run in runs:
        shard = run_path(out, run.subject, run.story, run.repeat)
        jobs.append((run.name, partial(scan_run, run, cleaning, targets, shard)))
    sizes = [reading_bytes(run) for run in runs]
    found = _each("reading", jobs, progress, _memory(jobs, [0] * len(audio) + sizes))
    stories, scans = dict(zip(audio, found, strict=False)), found[len(audio) :]
    sizes = [
        max(size, cleaning_bytes(scan.volumes, scan.candidates))
        for size, scan in zip(sizes, scans, strict=True)
    ]
    _memory(jobs[len(audio) :], sizes)  # that cleaning fits is checked while nothing has been written
    varying = kept_targets(runs, scans)
    return Scanned(recordings, runs, scans, sizes, audio, stories, varying, regions, cleaning, targets)


def _bring_up_to_date(
    scanned: Scanned, told: Sources, work: _Work
) -> tuple[DatasetCard, Mapping[Place, str]]:
    """Write what is missing or changed; the card to write, and the digest of each file that must be there.

    Ceilings are measured on shards. Where they decide which targets are kept, the recordings that tell them
    are written whole first, then again with what is kept.
    """
    writer, varying, least = work.writer, scanned.varying, scanned.targets.min_ceiling
    out = writer.root
    whole = recordings_wanted(scanned, varying, writer)
    of_recordings = {shard.name: shard.digest for shard in whole}
    identities = table_identities(scanned.runs, of_recordings, scanned.seconds, told, scanned.targets)
    digests = {subject: content_digest(COLUMNS_VERSION, one) for subject, one in identities.items()}
    tables = {subject: targets_path(out, subject) for subject in varying}
    said = said_by(tables.values())
    missing = [one for one, path in tables.items() if said[path].get("digest") != digests[one]]

    def ceilings() -> Mapping[str, NDArray[np.float32] | None]:
        jobs = measuring_jobs(out, scanned, told, missing)
        return measured(told, missing, _each("measuring", jobs, work.progress, _memory(jobs, [0])))

    if least is None:
        kept = varying
    else:
        needed = taking_part(scanned.runs, told, missing)
        work.write("measuring", stale_shards([shard for shard in whole if shard.name in needed]))
        best = ceilings()
        kept = {
            subject: above(subject, keep, scanned.regions, best[subject], least)
            if subject in best
            else unpack(said[tables[subject]]["kept"], len(keep))
            for subject, keep in varying.items()
        }
    recordings = whole if kept is varying else recordings_wanted(scanned, kept, writer)
    heard = [*sounds_wanted(scanned, writer), *recordings]
    named = [(shard.name, shard.digest) for shard in heard]
    card = make_card(scanned, kept, [*named, *identities.items()])
    stale = stale_shards(heard)
    if stale or missing or not has_card(out, card):
        work.claim()
    work.write("writing", stale)
    if least is None:
        best = ceilings()
    work.write("writing", tables_wanted(scanned, kept, best, told.way, digests, writer))
    wanted = {shard.path: shard.digest for shard in heard}
    return card, wanted | {path: digests[subject] for subject, path in tables.items()}


def _finish(out: Place, card: DatasetCard, writer: Writer) -> None:
    """Write the card. In a store, only if no other `prepare` has begun to write there: else DataError."""
    if isinstance(out, Path):
        write_whole(out / CARD_NAME, card.to_json())
        return
    writer.check()
    put_whole(out / CARD_NAME, card.to_json().encode())
    try:
        writer.check()
    except DataError:
        remove(out / CARD_NAME)
        raise


def _each(
    what: str,
    jobs: Sequence[tuple[str, Job]],
    progress: Progress,
    max_bytes: int,
    finished: Callable[[int], None] | None = None,
) -> list[Any]:
    """What every job gives, in order; they run as Ray tasks of one CPU each.

    max_bytes: memory that Ray sets aside for each of them.
    finished: called with the index of each job as soon as it is done.
    Raises DataError once all have run, if any of them met a user's mistake.
    """
    if not jobs:
        return []
    rows = [{"index": index, "job": pickle.dumps(job)} for index, (_, job) in enumerate(jobs)]
    results: dict[int, Any] = {}
    with _quiet_ray_data():
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _run_job, num_cpus=1, memory=max_bytes
        )
        for row in done.iter_rows():
            results[row["index"]] = pickle.loads(row["result"])  # noqa: S301  # made by _run_job
            if finished and not isinstance(results[row["index"]], UserError):
                finished(row["index"])
            progress(what, len(results), len(jobs))
    failures = [(jobs[i][0], results[i]) for i in sorted(results) if isinstance(results[i], UserError)]
    if len(failures) == 1:
        raise failures[0][1]
    if failures:
        lines = "".join(f"\n  {name}: {error}" for name, error in failures)
        raise DataError(f"{len(failures)} recordings and sounds can't be used:{lines}")
    return [results[index] for index in range(len(jobs))]


def _memory(jobs: Sequence[tuple[str, Job]], sizes: Sequence[int]) -> int:
    """Memory for any of the jobs, bytes: Ray Data knows one figure for all tasks of a step.

    Never more than the largest machine has, for which Ray would wait for ever.
    Raises DataError if one of the recordings can't fit into it.
    """
    largest = int(max(node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]))
    need = max(sizes, default=0)
    if need > largest:
        name, _ = jobs[sizes.index(need)]
        raise DataError(
            f"{name}: takes about {need / 1e9:.3g} GB of memory, the largest machine offers Ray "
            f"{largest / 1e9:.3g} GB",
            "work on a machine with more, or cut the recording down first",
        )
    return min(need + WORKER_BYTES, largest)


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
