"""The manifest: which recordings there are, and where."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One recording of one subject hearing one story.

    bold: one volume, CIFTI or HDF5 file, or left and right GIFTI in that order.
    tr_s: seconds between volumes.  onset_s: when the story begins in the scan, seconds; below 0 if it began
    before the first volume that the file holds.
    duration_s: how long the story was heard, by the events file; None where it doesn't say.
    repeat: 1 for the first recording of this story in this subject, 2 for the second, ...
    member: which matrix of an HDF5 file, `data` or `individual_repeats[0]`; None for other files.
    """

    subject: str
    story: str
    repeat: int
    bold: tuple[Path, ...]
    audio: Path
    tr_s: float
    onset_s: float
    confounds: Path | None
    space: str
    member: str | None = None
    duration_s: float | None = None

    @property
    def name(self) -> str:
        """`sub-001/story02`, with the recording's number from the second on."""
        return f"{self.subject}/{self.story}" + (f"/{self.repeat}" if self.repeat > 1 else "")


def numbered(runs: Iterable[Run]) -> list[Run]:
    """The same runs in the same order, each with its number among its subject's recordings of its story."""
    heard: defaultdict[tuple[str, str], int] = defaultdict(int)
    counted: list[Run] = []
    for run in runs:
        heard[run.subject, run.story] += 1
        counted.append(replace(run, repeat=heard[run.subject, run.story]))
    return counted
