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
from wav2bold.datasets.jobs import run_job, story_job, targets_job
from wav2bold.datasets.regions import Regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan, pack
from wav2bold.datasets.shards import content_digest, run_path, story_path, targets_path
from wav2bold.datasets.single_writer import Writer
from wav2bold.datasets.targets import target_ids
from wav2bold.datasets.writing import read_metadata
from wav2bold.places import Place

Job = Callable[[], Any]
AT_ONCE = 16
"""Files asked side by side: where they are far away, asking is waiting."""


@dataclass(frozen=True)
class Shard:
    """A file that must be there, the digest of all it is made from, and the job that writes its draft.

    size: memory that the job takes beside the worker's own, bytes.
    """

    path: Place
    name: str
    digest: str
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
    return [
        Shard(
            path := story_path(writer.root, story),
            story,
            scan.key,
            partial(story_job, scanned.audio[story], writer.draft(path), scan),
        )
        for story, scan in scanned.stories.items()
    ]


def recordings_wanted(scanned: Scanned, keep: Mapping[str, NDArray[np.bool_]], writer: Writer) -> list[Shard]:
    """The file of every recording. keep: (candidates,) bool for each subject, those of its targets."""
    wanted = []
    packed = {subject: pack(one) for subject, one in keep.items()}
    for run, scan, size in zip(scanned.runs, scanned.scans, scanned.sizes, strict=True):
        kept = keep[run.subject]
        path = run_path(writer.root, run.subject, run.story, run.repeat)
        digest = content_digest(scan.key, packed[run.subject])
        parts = (run, scanned.cleaning, scanned.targets, kept, writer.draft(path), scan, digest)
        wanted.append(Shard(path, run.name, digest, partial(run_job, *parts), size))
    return wanted


def tables_wanted(
    scanned: Scanned,
    kept: Mapping[str, NDArray[np.bool_]],
    ceilings: Mapping[str, NDArray[np.float32] | None],
    way: str | None,
    digests: Mapping[str, str],
    writer: Writer,
) -> list[Shard]:
    """The table of targets of every subject whose ceilings were measured.

    kept: (candidates,) bool for each subject, those of its targets.
    ceilings: of every target that varies, kept or not, by `way`; None where there are none.
    """
    heard: defaultdict[str, list[tuple[Run, int]]] = defaultdict(list)
    for run, size in zip(scanned.runs, scanned.sizes, strict=True):
        heard[run.subject].append((run, size))
    wanted = []
    for subject, measured in ceilings.items():
        own = heard[subject]
        keep, best = kept[subject], measured
        if best is not None:
            every = target_ids(scanned.varying[subject], scanned.regions)
            best = best[np.isin(every, target_ids(keep, scanned.regions))]
        path = targets_path(writer.root, subject)
        runs = [run for run, _ in own]
        parts = (writer.root, writer.draft(path), runs, scanned.cleaning, scanned.targets, keep, best, way)
        job = partial(targets_job, *parts, digests[subject])
        # it reads the recordings whose shards are from before they said how steady the scanner was
        wanted.append(Shard(path, subject, digests[subject], job, max(size for _, size in own)))
    return wanted


def said_by(paths: Iterable[Place]) -> dict[Place, dict[str, Any]]:
    """What each file says it was made from; nothing where it is absent or damaged."""
    paths = list(paths)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(paths, pool.map(read_metadata, paths), strict=True))


def stale_paths(digests: Mapping[Place, str]) -> set[Place]:
    """Files that are absent, or made from something else than their digest says."""
    return {path for path, said in said_by(digests).items() if said.get("digest") != digests[path]}


def stale_shards(shards: Sequence[Shard]) -> list[Shard]:
    """Those whose files are absent, or made from something else."""
    stale = stale_paths({shard.path: shard.digest for shard in shards})
    return [shard for shard in shards if shard.path in stale]
