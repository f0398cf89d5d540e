"""Recordings to shards: `wav2bold prepare`.

Ray tasks read every recording once and draft its shard: cleaned, and aside, where no reader looks. When all
were read, it is known which targets vary in all of a subject's recordings, and the drafts that hold others
too are made narrower. Only then, when nothing can be wrong any more, drafts are put into their places,
leftovers of recordings that are gone are removed, and the card, `dataset.json`, is written. `single_writer`
keeps two of us apart.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wav2bold.config import Cleaning, Split, Targets
from wav2bold.datasets.agreement import doubts
from wav2bold.datasets.card import has_card
from wav2bold.datasets.drafting import Drafted, draft_all
from wav2bold.datasets.layouts.choosing import stop
from wav2bold.datasets.layouts.known import find
from wav2bold.datasets.reading import nothing_left, read_all
from wav2bold.datasets.shards import CARD_NAME, DatasetCard
from wav2bold.datasets.single_writer import AT_ONCE, TakenOverError, Writer, single_writer
from wav2bold.datasets.sources import check_ceilings, sources
from wav2bold.datasets.splits import default_split
from wav2bold.datasets.writing import check_ours, claim, remove_others
from wav2bold.errors import UserError
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
    Raises DataError for mistakes in the recordings, before anything in its place is changed.
    """
    recordings, out = recordings.resolve(), out.resolve() if isinstance(out, Path) else out
    cleaning = cleaning if targets.mask is None else cleaning.model_copy(update={"mask": targets.mask})
    check_ours(out)
    with single_writer(out, progress) as writer:
        check_ours(out)
        failed: list[tuple[str, UserError]] = []
        refuse = stop if strict else lambda name, error: failed.append((name, error))
        found = find(recordings, layout, space, refuse, progress)
        scanned = read_all(recordings, found.runs, writer, cleaning, targets, progress, refuse)
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
        drafted = draft_all(scanned, told, writer, progress)
        written: set[Place] = set()
        complete = drafted.complete and has_card(out, drafted.card)
        if not complete:
            claim(out, writer.token)  # once: a second time would take a store back from who has begun since
            with writer.claimed():
                written |= _publish(drafted, writer, progress)
                for _ in range(0 if isinstance(out, Path) else FINISHING):
                    drafted = draft_all(scanned, told, writer, progress)  # what another has overwritten since
                    if drafted.complete:
                        break
                    written |= _publish(drafted, writer, progress)
                writer.check()
        # a store may be another's by now, unless it was claimed
        ours = not complete or isinstance(out, Path)
        removed = remove_others(out, set(drafted.lie)) if ours else 0
        if not complete:
            _write_card(drafted.card, writer)
    odd = (*doubts(scanned.runs, scanned.stories), *([told.hint] if told.hint else []))
    return Prepared(
        drafted.card,
        len(written),
        len(drafted.lie) - len(written),
        removed,
        {subject: int((~keep).sum()) for subject, keep in scanned.varying.items()},
        found.layout,
        found.left_out,
        odd,
        tuple((name, str(error)) for name, error in failed),
    )


def _publish(drafted: Drafted, writer: Writer, progress: Progress) -> set[Place]:
    """Put all drafts into their places; their paths."""
    drafts = {path: draft for path, draft in drafted.lie.items() if path != draft}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = pool.map(writer.publish, drafts.values(), drafts)
        try:
            for count, _ in enumerate(done, start=1):
                progress("writing", count, len(drafts))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return set(drafts)


def _write_card(card: DatasetCard, writer: Writer) -> None:
    """Write the card. In a store, only if no other `prepare` has begun to write there."""
    out = writer.root
    if isinstance(out, Path):
        write_whole(out / CARD_NAME, card.to_json())
        return
    put_whole(out / CARD_NAME, card.to_json().encode())
    try:
        writer.check()
    except TakenOverError:
        remove(out / CARD_NAME)
        raise
