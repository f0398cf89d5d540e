"""The manifest: which recordings there are, and where."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One recording of one subject hearing one story.

    bold: one volume or CIFTI file, or left and right GIFTI in that order.
    tr_s: seconds between volumes.  onset_s: when the story begins in the scan, seconds.
    duration_s: how long the story was heard, by the events file; None where it doesn't say.
    repeat: 1 for the first recording of this story in this subject, 2 for the second, ...
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
    duration_s: float | None = None

    @property
    def name(self) -> str:
        """`sub-001/story02`, with the recording's number from the second on."""
        return f"{self.subject}/{self.story}" + (f"/{self.repeat}" if self.repeat > 1 else "")
