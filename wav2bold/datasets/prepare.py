"""Recordings to shards: `wav2bold prepare`.

Two passes of Ray tasks over the recordings. The first only reads: it finds every mistake while nothing has
been written, and which targets vary in all of a subject's recordings. The second cleans and writes what is
missing or changed. The card, `dataset.json`, is written last. `single_writer` keeps two of us apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Split, Targets
from wav2bold.datasets.agreement import doubts
from wav2bold.datasets.card import has_card, make_card
from wav2bold.datasets.layouts.choosing import stop
from wav2bold.datasets.layouts.known import find
from wav2bold.datasets.measuring import measured, measuring_jobs
from wav2bold.datasets.reading import nothing_left, read_all
from wav2bold.datasets.scan import unpack
from wav2bold.datasets.shards import CARD_NAME, DatasetCard, content_digest, targets_path
from wav2bold.datasets.single_writer import Writer, single_writer
from wav2bold.datasets.sources import Sources, check_ceilings, sources
from wav2bold.datasets.splits import default_split
from wav2bold.datasets.tables import COLUMNS_VERSION, above, table_identities, taking_part
from wav2bold.datasets.tasks import each, memory_of
from wav2bold.datasets.wanted import (
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
    failed: name of each recording or sound that can't be used, and why; the others are done without it.
    """

    card: DatasetCard
    written: int
    kept: int
    removed: int
    dropped: Mapping[str, int]
    layout: str
    left_out: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


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
        memory = memory_of([shard.size for shard in shards])
        publish = self.writer.publish
        each(what, jobs, self.progress, memory, finished=lambda index: publish(shards[index].path))
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
    *,
    strict: bool = True,
) -> Prepared:
    """Write the shards of all recordings under a folder; what is already there and right stays untouched.

    split: whose test stories take no part in noise ceilings; None for the split that a new study begins with.
    layout, space: as in `layouts.known.find`.
    strict: whether the first recording that can't be used ends everything; otherwise it is left out, `failed`
    tells of it, and a shard that it had is removed.
    Needs a Ray that is connected, and both folders on a disk that all its nodes share; `out` may also be a
    URL that they all reach. While another `prepare` has the folder, it waits.
    Raises DataError for mistakes in the recordings, nearly all of them before anything is written.
    """
    recordings, out = recordings.resolve(), out.resolve() if isinstance(out, Path) else out
    cleaning = cleaning if targets.mask is None else cleaning.model_copy(update={"mask": targets.mask})
    check_ours(out)
    with single_writer(out, progress) as writer:
        check_ours(out)
        failed: list[tuple[str, UserError]] = []
        refuse = stop if strict else lambda name, error: failed.append((name, error))
        found = find(recordings, layout, space, refuse)
        scanned = read_all(recordings, found.runs, out, cleaning, targets, progress, refuse)
        if scanned is None:
            raise nothing_left(failed)
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
        tuple((name, str(error)) for name, error in failed),
    )


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
        given = each("measuring", jobs, work.progress, memory_of([0]))
        return measured(told, missing, list(given.values()))

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
