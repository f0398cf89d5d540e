"""All files that must be in a folder of shards: which are there, and drafts of the others."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wav2bold.datasets.card import make_card
from wav2bold.datasets.measuring import measured, measuring_bytes, measuring_jobs
from wav2bold.datasets.scan import unpack
from wav2bold.datasets.shards import DatasetCard, content_digest
from wav2bold.datasets.single_writer import Writer, taken_over
from wav2bold.datasets.sources import Sources
from wav2bold.datasets.tables import COLUMNS_VERSION, above, table_identities, taking_part
from wav2bold.datasets.tasks import each, memory_of
from wav2bold.datasets.wanted import (
    Scanned,
    Shard,
    located,
    recordings_wanted,
    sounds_wanted,
    table_shards,
    tables_wanted,
)
from wav2bold.datasets.writing import read_metadata
from wav2bold.places import Place
from wav2bold.progress import Progress


@dataclass(frozen=True)
class Drafted:
    """A folder of shards as it must be.

    lie: where each file lies now, by its path: there, or as a draft.
    """

    card: DatasetCard
    lie: Mapping[Place, Place]

    @property
    def complete(self) -> bool:
        """Whether every file is in its place."""
        return all(path == at for path, at in self.lie.items())


def draft_all(scanned: Scanned, told: Sources, writer: Writer, progress: Progress) -> Drafted:
    """Draft what is missing or changed, beyond what reading drafted; nothing in its place changes.

    Ceilings are measured on recordings with all their varying targets, also where they decide which of these
    are kept.
    Raises DataError if a subject has no target of the ceiling that was asked for.
    """
    varying, least = scanned.varying, scanned.targets.min_ceiling

    def made(what: str, shards: Sequence[Shard]) -> dict[str, Place]:
        """Where each lies, by its name, after the jobs of those that were nowhere."""
        known = located(shards)
        missing = [shard for shard in shards if shard.path not in known]
        jobs = [(shard.name, shard.job) for shard in missing]
        each(what, jobs, progress, memory_of([shard.size for shard in missing]))
        return {shard.name: known.get(shard.path, shard.drafts[0]) for shard in shards}

    whole = recordings_wanted(scanned, varying, writer)
    of_recordings = {shard.name: shard.digest for shard in whole}
    identities = table_identities(scanned.runs, of_recordings, scanned.seconds, told, scanned.targets)
    digests = {subject: content_digest(COLUMNS_VERSION, one) for subject, one in identities.items()}
    tables = tables_wanted(digests, writer)
    known = located(tables.values())
    unmeasured = [subject for subject, table in tables.items() if table.path not in known]

    needed = taking_part(scanned.runs, told, unmeasured)
    lie = made("choosing targets", [shard for shard in whole if least is None or shard.name in needed])
    jobs = measuring_jobs(scanned, told, unmeasured, lie)
    with _undisturbed(whole if jobs else [], lie, writer):
        found = each("measuring", [*jobs.items()], progress, memory_of([measuring_bytes(scanned, told)]))
    best = measured(told, unmeasured, dict(zip(jobs, found.values(), strict=True)))
    if least is None:
        kept, recordings = varying, whole
    else:
        kept = {
            subject: above(subject, keep, scanned.regions, best[subject], least)
            if subject in best
            else unpack(read_metadata(known[tables[subject].path])["kept"], len(keep))
            for subject, keep in varying.items()
        }
        recordings = recordings_wanted(scanned, kept, writer)
        lie = made("choosing targets", recordings)
    sounds = sounds_wanted(scanned, writer)
    of_sounds = made("reading again", sounds)
    measured_tables = table_shards(scanned, tables, kept, best, told.way, lie)
    with _undisturbed(recordings if measured_tables else [], lie, writer):
        of_tables = made("locating targets", measured_tables)

    named = [(shard.name, shard.digest) for shard in (*sounds, *recordings)]
    return Drafted(
        make_card(scanned, kept, [*named, *identities.items()]),
        {
            **known,
            **{shard.path: lie[shard.name] for shard in recordings},
            **{shard.path: of_sounds[shard.name] for shard in sounds},
            **{shard.path: of_tables[shard.name] for shard in measured_tables},
        },
    )


@contextmanager
def _undisturbed(shards: Sequence[Shard], lie: Mapping[str, Place], writer: Writer) -> Iterator[None]:
    """While tasks read shards in their places in a store, where another may replace them.

    lie: where each lies, by its name.
    Raises TakenOverError if one was replaced, whatever the tasks made of it.
    """
    shared = [] if isinstance(writer.root, Path) else shards  # the lock keeps others off a folder
    in_place = [shard for shard in shared if lie.get(shard.name) == shard.path]

    def check() -> None:
        still = located(in_place)
        if any(path != at for path, at in still.items()) or len(still) < len(in_place):
            raise taken_over(writer.root)

    try:
        yield
    except Exception:
        check()
        raise
    check()
