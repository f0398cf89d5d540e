"""Recordings to shards: `wav2bold prepare`. The only file of this room that knows Ray.

Two passes of Ray Data over the recordings. The first only reads: it finds every mistake while nothing has
been written, and which targets vary in all of a subject's recordings. The second cleans and writes what is
missing or changed. The card, `dataset.json`, is written last. `single_writer` keeps two of us apart.
"""

import json
import logging
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray

from wav2bold.config import Cleaning
from wav2bold.datasets.agreement import check_clocks, kept_targets, sounds
from wav2bold.datasets.jobs import run_job, story_job, targets_job
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.memory import WORKER_BYTES, cleaning_bytes, reading_bytes
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan, pack, scan_run, scan_story
from wav2bold.datasets.shards import (
    CARD_NAME,
    SCHEMA_VERSION,
    DatasetCard,
    StoryCard,
    SubjectCard,
    content_digest,
    open_shards,
    run_path,
    story_path,
    targets_path,
)
from wav2bold.datasets.single_writer import Writer, single_writer
from wav2bold.datasets.writing import check_ours, claim, read_metadata, remove_others
from wav2bold.errors import DataError, UserError
from wav2bold.options import write_whole
from wav2bold.places import Place, put_whole, remove
from wav2bold.progress import Progress, silent

LIBRARIES = ("wav2bold", "nibabel", "nilearn", "numpy", "pyarrow", "scipy", "soundfile", "soxr")
Job = Callable[[], Any]
FINISHING = 3
"""How often files that another writer has overwritten are written again."""


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    written, kept: shards (sounds, recordings, tables of targets) written now, and found as they should be.
    removed: files of recordings that are gone.  dropped: candidate targets that did not vary, per subject.
    """

    card: DatasetCard
    written: int
    kept: int
    removed: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class _Shard:
    """A file that must be there, the digest of all it is made from, and the job that writes it.

    size: memory that the job takes beside the worker's own, bytes.
    """

    path: Place
    name: str
    digest: str
    job: Job
    size: int = 0


def prepare(
    recordings: Path,
    out: Place,
    cleaning: Cleaning = Cleaning(),  # noqa: B008  # frozen
    progress: Progress = silent,
) -> Prepared:
    """Write the shards of all recordings under a folder; what is already there and right stays untouched.

    Needs a Ray that is connected, and both folders on a disk that all its nodes share; `out` may also be a
    URL that they all reach. While another `prepare` has the folder, it waits.
    Raises DataError for mistakes in the recordings, nearly all of them before anything is written.
    """
    assert ray.is_initialized()
    recordings, out = recordings.resolve(), out.resolve() if isinstance(out, Path) else out
    check_ours(out)
    with single_writer(out, progress) as writer:
        check_ours(out)
        return _prepare(recordings, out, cleaning, writer, progress)


def _prepare(
    recordings: Path, out: Place, cleaning: Cleaning, writer: Writer, progress: Progress
) -> Prepared:
    runs = find_runs(recordings)
    check_clocks(recordings, runs)
    audio = sounds(runs)
    shards = [run_path(out, run.subject, run.story, run.repeat) for run in runs]
    jobs: list[tuple[str, Job]] = [
        (story, partial(scan_story, path, story_path(out, story))) for story, path in audio.items()
    ]
    jobs += [
        (run.name, partial(scan_run, run, cleaning, shard)) for run, shard in zip(runs, shards, strict=True)
    ]
    sizes = [0] * len(audio) + [reading_bytes(run) for run in runs]
    found = _each("reading", jobs, progress, max_bytes=_memory(jobs, sizes))
    stories: dict[str, StoryScan] = dict(zip(audio, found, strict=False))
    scans: list[RunScan] = found[len(audio) :]
    kept = kept_targets(runs, scans)

    seconds = {story: scan.seconds for story, scan in stories.items()}
    heard = [
        _Shard(
            path := story_path(out, story),
            story,
            scan.key,
            partial(story_job, audio[story], writer.draft(path), scan),
        )
        for story, scan in stories.items()
    ]
    digests: defaultdict[str, list[str]] = defaultdict(list)
    for run, run_scan, path in zip(runs, scans, shards, strict=True):
        keep = kept[run.subject]
        digest = content_digest(run_scan.key, pack(keep))
        digests[run.subject].append(digest)
        job = partial(run_job, run, cleaning, keep, writer.draft(path), run_scan, digest)
        size = cleaning_bytes(run_scan.volumes, run_scan.candidates)
        heard.append(_Shard(path, run.name, digest, job, size))
    tables = []
    for subject, keep in kept.items():
        own = [run for run in runs if run.subject == subject]
        lengths = [seconds[run.story] for run in own]
        digest = content_digest("targets", SCHEMA_VERSION, digests[subject], lengths)
        path = targets_path(out, subject)
        job = partial(targets_job, out, writer.draft(path), own, seconds, cleaning, keep, digest)
        tables.append(_Shard(path, subject, digest, job))

    wanted = [*heard, *tables]
    card = _card(recordings, runs, stories, scans, kept, cleaning, wanted)
    stale = _stale(wanted)
    if stale or not _has_card(out, card):
        claim(out, writer.token)
    for group in (heard, tables):  # a table's ceiling is made from recordings already written
        _write([shard for shard in group if shard.path in stale], writer, progress)
    removed = remove_others(out, {shard.path for shard in wanted})
    if not (out / CARD_NAME).is_file():
        _finish(out, card, wanted, writer, progress)
    dropped = {subject: int((~keep).sum()) for subject, keep in kept.items()}
    return Prepared(card, len(stale), len(wanted) - len(stale), removed, dropped)


def _stale(shards: Sequence[_Shard]) -> set[Place]:
    """Files that are absent, or made from something else."""
    with ThreadPoolExecutor(16) as pool:  # they wait for a store, or for a disk
        found = pool.map(read_metadata, [shard.path for shard in shards])
        return {
            shard.path
            for shard, said in zip(shards, found, strict=True)
            if said.get("digest") != shard.digest
        }


def _write(shards: Sequence[_Shard], writer: Writer, progress: Progress) -> None:
    jobs = [(shard.name, shard.job) for shard in shards]
    memory = _memory(jobs, [shard.size for shard in shards])
    _each("writing", jobs, progress, memory, lambda index: writer.publish(shards[index].path))


def _finish(
    out: Place, card: DatasetCard, wanted: Sequence[_Shard], writer: Writer, progress: Progress
) -> None:
    """Write the card. In a store, only if all is as this `prepare` wrote it.

    Raises DataError if another `prepare` has begun to write there.
    """
    if isinstance(out, Path):
        write_whole(out / CARD_NAME, card.to_json())
        return
    for _ in range(FINISHING):
        spoilt = _stale(wanted)
        if not spoilt:
            break
        _write([shard for shard in wanted if shard.path in spoilt], writer, progress)
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


def _card(
    recordings: Path,
    runs: Sequence[Run],
    stories: Mapping[str, StoryScan],
    scans: Sequence[RunScan],
    kept: Mapping[str, NDArray[np.bool_]],
    cleaning: Cleaning,
    shards: Sequence[_Shard],
) -> DatasetCard:
    heard: dict[str, dict[str, int]] = {subject: {} for subject in kept}
    for run in runs:
        heard[run.subject][run.story] = max(run.repeat, heard[run.subject].get(run.story, 0))
    inputs: dict[str, str] = {}
    found = [*(scan.inputs for scan in stories.values()), *(scan.inputs for scan in scans)]
    for read in found:
        for name, digest in read.items():
            path = Path(name)
            within = path.is_relative_to(recordings)
            inputs[path.relative_to(recordings).as_posix() if within else name] = digest
    return DatasetCard(
        tr_s=runs[0].tr_s,
        space=runs[0].space,
        subjects={name: SubjectCard(int(keep.sum()), heard[name]) for name, keep in kept.items()},
        stories={name: StoryCard(scan.seconds, scan.digest) for name, scan in stories.items()},
        cleaning=cleaning.model_dump(mode="json"),
        name=_name(recordings),
        inputs=inputs,
        libraries={name: _version(name) for name in LIBRARIES},
        digest=content_digest(
            SCHEMA_VERSION, runs[0].tr_s, runs[0].space, [(shard.name, shard.digest) for shard in shards]
        ),
    )


def _has_card(out: Place, card: DatasetCard) -> bool:
    """Whether the card on disk describes the same shards, by whichever versions of libraries."""
    try:
        return open_shards(out).card.digest == card.digest
    except DataError:
        return False


def _name(recordings: Path) -> str:
    """What the recordings call themselves in BIDS' own `dataset_description.json`; "" if they don't."""
    try:
        said = json.loads((recordings / "dataset_description.json").read_text(encoding="utf-8"))
        return str(said.get("Name", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _version(library: str) -> str:
    try:
        return version(library)
    except ModuleNotFoundError:
        return "unknown"
