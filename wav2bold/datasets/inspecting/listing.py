"""What shards hold, for the terminal (rich): whole for a few subjects, a summary for many."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from wav2bold.datasets.inspecting.facts import Facts, StoryFacts, SubjectFacts
from wav2bold.pages.words import count, decimals, duration

MOST_COLUMNS = 8
"""Subjects whose recordings of every story are listed one by one, if the terminal is wide enough."""
MOST_ROWS = 12
"""Subjects who have a row of their own; more stand side by side."""
MOST_ODDITIES = 15
SMALL_GAP = 3
CELL = 10
"""Columns of the terminal that a subject takes beside its stories."""


def listing(facts: Facts, width: int) -> Group:
    """All facts that fit a terminal `width` characters wide."""
    parts: list[Any] = [_heading(facts), Text()]
    few = len(facts.subjects) <= min(MOST_COLUMNS, (width - 30) // CELL)
    parts.append(_recordings(facts) if few else _stories(facts.stories))
    parts += [Text(), _people(facts) if len(facts.subjects) <= MOST_ROWS else _folded(facts, width)]
    if facts.unlike:
        parts += [Text(), _unlike(facts)]
    return Group(*parts)


def cleaning_words(facts: Facts) -> str:
    """The options in force, by their names in the study file; of a file only its name: pages are shared."""
    said = []
    for name, value in facts.cleaning.items():
        if name == "compcor_components" and facts.cleaning.get("confounds_strategy") != "compcor":
            continue  # it applies to nothing
        if value is True:
            said.append(name)
        elif value:
            words = value if isinstance(value, list | tuple) else [value]
            said.append(" ".join([name, *map(_word, words)]))
    return ", ".join(said) or "none"


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else PurePath(str(value)).name


def totals(facts: Facts) -> str:
    """How much there is, in a sentence."""
    return (
        f"{count(len(facts.subjects), 'subject')}, {count(len(facts.stories), 'story')}, "
        f"{count(facts.recordings, 'recording')}: {count(facts.volumes, 'volume')}, {duration(facts.seconds)}"
    )


def _heading(facts: Facts) -> Text:
    text = Text()
    text.append(facts.name or "unnamed data set", style="bold")
    text.append(f"\nTR {facts.tr_s:g} s, space {facts.space}\ncleaning: {cleaning_words(facts)}\n")
    text.append(totals(facts), style="bold")
    return text


def _recordings(facts: Facts) -> Table:
    """Stories x subjects: volumes of each recording."""
    table = _table("Story", "Sound, s", *(one.name for one in facts.subjects))
    for story in facts.stories:
        cells = [volumes_words(one.volumes.get(story.name, ())) for one in facts.subjects]
        _row(table, story.name, f"{story.seconds:,.1f}", *cells)
    table.caption = "Volumes of each recording."
    return table


def volumes_words(counts: Sequence[int]) -> str:
    """`81`, `2 x 81` for repeats of one length, `81 + 79` for others; a dash for a story not heard."""
    if len(counts) > 1 and len(set(counts)) == 1:
        return f"{len(counts)} \N{MULTIPLICATION SIGN} {counts[0]:,}"
    return " + ".join(f"{one:,}" for one in counts) or "\N{EN DASH}"


def _stories(stories: Sequence[StoryFacts]) -> Table:
    """A row per story, for as many subjects as there are."""
    table = _table("Story", "Sound, s", "Subjects", "Recordings", "Volumes")
    for one in stories:
        same = one.least_volumes == one.most_volumes
        span = "" if same else f" ({one.least_volumes:,} to {one.most_volumes:,})"
        volumes = f"{one.median_volumes:,.0f}{span}"
        _row(table, one.name, f"{one.seconds:,.1f}", f"{one.subjects:,}", f"{one.recordings:,}", volumes)
    table.caption = "Volumes of a recording: median (least to most)."
    return table


def _people(facts: Facts) -> Table:
    """A row per subject."""
    measured = any(one.tsnr is not None for one in facts.subjects)
    names = ("Subject", "Stories", "Recordings", "Volumes", "Seconds", "Targets", "Ceiling")
    table = _table(*names, *(["tSNR"] if measured else []))
    for one in facts.subjects:
        cells = [len(one.volumes), one.recordings, one.total, round(one.seconds), one.targets]
        tsnr = [_tsnr(one)] if measured else []
        _row(table, one.name, *(f"{cell:,}" for cell in cells), decimals(one.ceiling), *tsnr)
    table.caption = f"Ceiling{' and tSNR' if measured else ''}: mean over targets."
    return table


def _folded(facts: Facts, width: int) -> Table:
    """A short row per subject, in as many columns as the terminal has place for, read downwards."""
    rows = [
        (one.name, str(len(one.volumes)), f"{one.total:,}", f"{one.targets:,}", decimals(one.ceiling, 2))
        for one in facts.subjects
    ]
    names = ("Subject", "St", "Volumes", "Targets", "Ceil")
    taken = sum(max(map(len, column)) + 1 for column in zip(names, *rows, strict=True)) + SMALL_GAP
    across = max(1, (width + SMALL_GAP) // taken)
    length = -(-len(rows) // across)
    table = Table(box=None, show_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    for number in range(-(-len(rows) // length)):
        if number:
            table.add_column(" " * (SMALL_GAP - 1))
        for name in names:
            table.add_column(name, justify="left" if name == "Subject" else "right", no_wrap=True)
    blank = ("",) * len(names)
    for first in range(length):
        cells: list[str] = []
        for place in range(first, length * (-(-len(rows) // length)), length):
            cells += [*([""] if cells else []), *(rows[place] if place < len(rows) else blank)]
        _row(table, *cells)
    table.caption = "St: stories heard. Ceil: ceiling, mean over targets."
    return table


def _unlike(facts: Facts) -> Text:
    text = Text("Unlike the others", style="bold")
    for one in facts.unlike[:MOST_ODDITIES]:
        text.append(f"\n  {one.subject}: {one.words}", style="not bold")
    if len(facts.unlike) > MOST_ODDITIES:
        text.append(f"\n  and {len(facts.unlike) - MOST_ODDITIES:,} more; --json lists all", style="not bold")
    return text


def _tsnr(one: SubjectFacts) -> str:
    return "\N{EN DASH}" if one.tsnr is None else decimals(one.tsnr, 1)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, caption_justify="left")
    for number, name in enumerate(names):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    """Add a row of plain text: names may hold what rich takes for markup."""
    table.add_row(*map(Text, cells))
