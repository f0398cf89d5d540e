"""The layouts that `prepare` reads, and which one a folder or file is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wav2bold.datasets.files import check_open
from wav2bold.datasets.layouts import bids, lebel, manifest, narratives
from wav2bold.datasets.layouts.choosing import Refuse, Tell, stop
from wav2bold.datasets.runs import Run
from wav2bold.errors import DataError
from wav2bold.options import nearest
from wav2bold.progress import Progress, silent


@dataclass(frozen=True)
class Layout:
    """One way in which recordings are kept.

    matches: whether a source bears its marks.
    find_runs: its runs (source, space or None, tell, refuse, progress).
    """

    name: str
    matches: Callable[[Path], bool]
    find_runs: Callable[[Path, str | None, Tell, Refuse, Progress], list[Run]]


LAYOUTS = (
    Layout("manifest", manifest.matches, manifest.find_runs),
    Layout("narratives", narratives.matches, narratives.find_runs),
    Layout("lebel", lebel.matches, lebel.find_runs),
    Layout("bids", bids.matches, bids.find_runs),  # last: any folder may be one
)


@dataclass(frozen=True)
class Found:
    """layout: how the source was read.  left_out: a sentence for each kind of recording passed over."""

    layout: str
    runs: tuple[Run, ...]
    left_out: tuple[str, ...]


def find(
    source: Path,
    layout: str | None = None,
    space: str | None = None,
    refuse: Refuse = stop,
    progress: Progress = silent,
) -> Found:
    """Every recording of a source. layout: None takes the first whose marks it bears.

    refuse: told of each recording that can't be used.
    Raises DataError if there is no such layout, the source is none or may not be read, or as the layout does.
    """
    chosen = layout_of(source, layout)
    left_out: list[str] = []
    runs = chosen.find_runs(source, space, left_out.append, refuse, progress)
    return Found(chosen.name, tuple(runs), tuple(left_out))


def layout_of(source: Path, name: str | None = None) -> Layout:
    """The layout that a source has; None takes the first whose marks it bears. Raises DataError as `find`."""
    check_open(source)
    return _named(name) if name else _recognised(source)


def _named(name: str) -> Layout:
    found = {layout.name: layout for layout in LAYOUTS}
    if name not in found:
        near = nearest(name, found)
        raise DataError(
            f"--layout {name}: there are {', '.join(found)}",
            f"did you mean {near}?" if near else "name one of them",
        )
    return found[name]


def _recognised(source: Path) -> Layout:
    for layout in LAYOUTS:
        if layout.matches(source):
            return layout
    if source.exists():
        raise DataError(
            f"{source}: is a file and no .tsv", "give a folder of recordings, or a manifest (.tsv)"
        )
    raise DataError(f"{source}: no such folder", "give a folder of recordings, or a manifest (.tsv)")
