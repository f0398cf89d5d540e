"""The files that must be in a folder of shards: what each is made from, and the job that writes it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.jobs import story_job, targets_job
from wav2bold.datasets.recording import cleaned_together, draft_of, write_run_job
from wav2bold.datasets.regions import Regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan, pack, shard_digest
from wav2bold.datasets.shards import run_path, story_path, targets_path
from wav2bold.datasets.single_writer import AT_ONCE, Writer
from wav2bold.datasets.targets import target_ids
from wav2bold.datasets.writing import read_metadata
from wav2bold.places import Place

Job = Callable[[], Any]


@dataclass(frozen=True)
class File:
    """A file that must be there, the digest of all it is made from, and where drafts of it may lie."""

    path: Place
    digest: str
    drafts: tuple[Place, ...]


@dataclass(frozen=True)
class Shard(File):
    """A file, and the job that writes the first of its drafts.

    size: memory that the job takes beside the worker's own, bytes.
    """

    name: str
    job: Job
    size: int = 0


@dataclass(frozen=True)
class Scanned:
    """Recordings, and what reading them told.

    scans: of each run.  sizes: memory to read and clean it, bytes.  audio: file of each story's sound.
    varying: for each subject (candidates,) bool, those that vary in all of its recordings.
    """

    recordings: Path
    runs: Sequence[Run]
    scans: Sequence[RunScan]
    sizes: Sequence[int]
    audio: Mapping[str, Path]
    stories: Mapping[str, StoryScan]
    varying: Mapping[str, NDArray[np.bool_]]
    regions: Regions | None
    cleaning: Cleaning
    targets: Targets

    @property
    def seconds(self) -> dict[str, float]:
        """Length of each story."""
        return {story: scan.seconds for story, scan in self.stories.items()}


def sounds_wanted(scanned: Scanned, writer: Writer) -> list[Shard]:
    """The file of every story's sound."""
    wanted = []
    for story, scan in scanned.stories.items():
        draft = writer.draft("sound", scan.key, story)
        job = partial(story_job, scanned.audio[story], draft, scan)
        wanted.append(Shard(story_path(writer.root, story), scan.key, (draft,), story, job))
    return wanted


def recordings_wanted(scanned: Scanned, keep: Mapping[str, NDArray[np.bool_]], writer: Writer) -> list[Shard]:
    """The file of every recording. keep: (candidates,) bool for each subject, those of its targets."""
    wanted = []
    packed = {subject: pack(one) for subject, one in keep.items()}
    varying = {subject: pack(one) for subject, one in scanned.varying.items()}

    def draft(run: Run, digest: str) -> Place:
        return writer.draft("targets of run", digest, run.subject, run.story, str(run.repeat))

    for run, scan, size in zip(scanned.runs, scanned.scans, scanned.sizes, strict=True):
        kept, all_varying = packed[run.subject], varying[run.subject]
        base = (
            scan.packed
            if all_varying == scan.packed
            else cleaned_together(scan, scanned.varying[run.subject], scanned.regions)
        )
        path = run_path(writer.root, run.subject, run.story, run.repeat)
        digest = shard_digest(scan, kept, base)
        read = draft_of(run, scan.key, writer.draft)
        whole = draft(run, shard_digest(scan, all_varying, base))
        own = draft(run, digest)
        parts = (run, scanned.cleaning, scanned.targets, scan, base, kept, (read, whole, path), own)
        wanted.append(Shard(path, digest, (own, read), run.name, partial(write_run_job, *parts), size))
    return wanted


def tables_wanted(digests: Mapping[str, str], writer: Writer) -> dict[str, File]:
    """The table of targets of every subject. digests: of what each is made from."""
    return {
        subject: File(targets_path(writer.root, subject), digest, (writer.draft("targets", digest, subject),))
        for subject, digest in digests.items()
    }


def table_shards(
    scanned: Scanned,
    tables: Mapping[str, File],
    kept: Mapping[str, NDArray[np.bool_]],
    ceilings: Mapping[str, NDArray[np.float32] | None],
    way: str | None,
    shards: Mapping[str, Place],
) -> list[Shard]:
    """The same with their jobs, of subjects whose ceilings were measured.

    kept: (candidates,) bool for each subject, those of its targets.
    ceilings: of every target that varies, kept or not, by `way`; None where there are none.
    shards: where that of each recording lies, by its name.
    """
    heard: defaultdict[str, list[tuple[Run, int]]] = defaultdict(list)
    for run, size in zip(scanned.runs, scanned.sizes, strict=True):
        heard[run.subject].append((run, size))
    wanted = []
    for subject, measured in ceilings.items():
        own, table = heard[subject], tables[subject]
        keep, best = kept[subject], measured
        if best is not None:
            every = target_ids(scanned.varying[subject], scanned.regions)
            best = best[np.isin(every, target_ids(keep, scanned.regions))]
        runs = [run for run, _ in own]
        lie = [shards[run.name] for run in runs]
        parts = (lie, table.drafts[0], runs, scanned.cleaning, scanned.targets, keep, best, way)
        job = partial(targets_job, *parts, table.digest)
        # it reads the recordings whose shards are from before they said how steady the scanner was
        size = max(size for _, size in own)
        wanted.append(Shard(table.path, table.digest, table.drafts, subject, job, size))
    return wanted


def located(files: Iterable[File]) -> dict[Place, Place]:
    """By the path of each file, where it lies: there, or as a draft. Without those that are nowhere."""
    files = list(files)
    lie: dict[Place, Place] = {}
    for number in range(1 + max((len(file.drafts) for file in files), default=0)):
        asked = {
            file: (file.path, *file.drafts)[number]
            for file in files
            if file.path not in lie and number <= len(file.drafts)
        }
        said = said_by(asked.values())
        lie |= {file.path: at for file, at in asked.items() if said[at].get("digest") == file.digest}
    return lie


def said_by(paths: Iterable[Place]) -> dict[Place, dict[str, Any]]:
    """What each file says it was made from; nothing where it is absent or damaged."""
    paths = list(paths)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(paths, pool.map(read_metadata, paths), strict=True))
