"""Which recordings tell the noise ceiling: repeats of a story, or other people who heard it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal

from wav2bold.config import Cleaning, Split, Targets
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, exact
from wav2bold.datasets.shards import in_common
from wav2bold.errors import DataError

REPEATS: Literal["repeats"] = "repeats"
OTHERS: Literal["others"] = "others"


@dataclass(frozen=True)
class Together:
    """Recordings of one story in several people, whose volumes fall on the same times in it.

    runs: one of each person.  rows: for each, the first of its shard's rows that all have, and the one after
    the last.
    """

    story: str
    runs: tuple[Run, ...]
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Sources:
    """How ceilings are estimated.

    way: by repeats or by other people; None where neither can be.
    stories: those whose repeats may be used.  together: those that others are compared on.
    hint: what the user should know, "" if nothing.
    """

    way: Literal["repeats", "others"] | None
    stories: tuple[str, ...] = ()
    together: tuple[Together, ...] = ()
    hint: str = ""


def sources(
    runs: Sequence[Run],
    scans: Sequence[RunScan],
    seconds: Mapping[str, float],
    cleaning: Cleaning,
    split: Split | None,
    targets: Targets,
) -> Sources:
    """Repeats, of stories that don't test; where no story was heard twice by anybody, other people.

    seconds: length of each story.  split: None where no story is held out.
    Others are compared on training stories only, and only in a space that means the same in all.
    """
    tests = () if split is None or targets.ceiling_from_test else split.test
    repeated = sorted({run.story for run in runs if run.repeat > 1})
    if repeated:
        usable = tuple(story for story in repeated if story not in tests)
        held = ", ".join(story for story in repeated if story in tests)
        hint = (
            f"only {held}, which tests, was heard more than once: there is no noise ceiling; set "
            "targets.ceiling_from_test: true in the study file to estimate it there, or test another story"
        )
        return Sources(REPEATS, usable) if usable else Sources(None, hint=hint)
    if split is None or targets.ceiling_from_test:
        heard = set(seconds)
    else:
        heard = set(split.train or seconds) - {*split.validation, *split.test}
    groups: defaultdict[tuple[str, str, Fraction], list[tuple[Run, RunScan]]] = defaultdict(list)
    for run, scan in zip(runs, scans, strict=True):
        if run.story in heard and in_common(run.space):
            clock = exact(run.onset_s) % exact(run.tr_s)
            groups[run.story, scan.grid, clock].append((run, scan))
    together = [
        shared
        for (story, _, _), group in sorted(groups.items())
        if len(group) > 1 and (shared := _shared(story, group, seconds[story], cleaning))
    ]
    return Sources(OTHERS, together=tuple(together)) if together else Sources(None)


def check_ceilings(told: Sources, targets: Targets) -> None:
    """Raise DataError if targets are to be kept by a ceiling that nothing tells."""
    if targets.min_ceiling is not None and told.way is None:
        raise DataError(
            f"targets.min_ceiling is {targets.min_ceiling:g}: "
            + (told.hint or "no story was heard twice, nor by two people in one space"),
            "" if told.hint else "leave it out",
        )


def _shared(
    story: str, group: Sequence[tuple[Run, RunScan]], seconds: float, cleaning: Cleaning
) -> Together | None:
    """The volumes within the story that all of a group have; None if they are fewer than 3."""
    tr_s = exact(group[0][0].tr_s)
    starts = [cleaning.drop_first * tr_s - exact(run.onset_s) for run, _ in group]
    lengths = [scan.volumes - cleaning.drop_first - cleaning.drop_last for _, scan in group]
    begin = max(*starts, ceil(-starts[0] / tr_s) * tr_s + starts[0])  # the first volume from 0 s on
    last = floor((exact(seconds) - begin) / tr_s)
    last = min(
        [
            last,
            *(
                length - 1 - int((begin - start) / tr_s)
                for start, length in zip(starts, lengths, strict=True)
            ),
        ]
    )
    if last + 1 < 3:
        return None
    firsts = [int((begin - start) / tr_s) for start in starts]
    return Together(
        story, tuple(run for run, _ in group), tuple((first, first + last + 1) for first in firsts)
    )
