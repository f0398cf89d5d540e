"""Which samples of a story are heard up to a volume, and which volumes have heard enough."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.shards import Shards
from wav2bold.errors import DataError


def window_length(tr_s: float, history: int) -> int:
    """Samples in `history` TRs of audio."""
    return round(history * tr_s * SAMPLE_RATE_HZ)


def window_stop(time_s: float) -> int:
    """First sample that is not yet heard `time_s` seconds into the story.

    Rounded down, so that no window reaches past its volume's own time. A time that lies within a
    nanosecond of a sample counts as that sample: 4.5 s is 72,000 samples, also as 4.4999999999.
    """
    return int(np.floor(time_s * SAMPLE_RATE_HZ + SAMPLE_RATE_HZ * 1e-9))


def window_slice(time_s: float, tr_s: float, history: int) -> slice:
    """Audio samples heard in the `history` TRs that end `time_s` seconds into the story.

    Never reaches past `time_s`. Raises DataError if the history begins before the story.
    """
    stop = window_stop(time_s)
    start = stop - window_length(tr_s, history)
    if start < 0:
        raise DataError(
            f"a history of {history} TRs ({history * tr_s:g} s) up to {time_s:g} s begins before the story",
            "drop that volume or shorten the history",
        )
    return slice(start, stop)


@dataclass(frozen=True)
class Windows:
    """Volumes whose history is complete, for one or several subjects.

    story: (N,) ids.  stop: (N,) the sample at which each window ends.
    y: (N, V) float32, the targets of all subjects side by side; NaN where a subject has no such
    volume.  subject: (V,) whose target each column is.  dropped: volumes left out since their
    history was not complete or the story was over.
    """

    story: NDArray[np.str_]
    stop: NDArray[np.int64]
    y: NDArray[np.float32]
    subject: NDArray[np.str_]
    dropped: int

    def __len__(self) -> int:
        return len(self.stop)


def windows(shards: Shards, subjects: Sequence[str], stories: Sequence[str], history: int) -> Windows:
    """All volumes of `stories` whose last `history` TRs lie within the story.

    Give the longest history that will be compared: then every history is fitted and scored on the
    same volumes. One row serves every subject who heard that moment.
    Raises DataError if a subject heard none of the stories, or if no volume is left.
    """
    length = window_length(shards.card.tr_s, history)
    rows: dict[tuple[str, int], list[tuple[int, NDArray[np.float32]]]] = {}
    widths: list[int] = []
    dropped = 0
    for number, subject in enumerate(subjects):
        heard = [story for story in stories if story in shards.card.subjects[subject].stories]
        if not heard:
            raise DataError(f"{subject} heard none of {', '.join(stories)}", "change split in the study file")
        for story in heard:
            bold = shards.bold(subject, story)
            end = round(shards.card.stories[story].seconds * SAMPLE_RATE_HZ)
            for time_s, y in zip(bold.time_s, bold.y, strict=True):
                stop = window_stop(float(time_s))
                if length <= stop <= end:
                    rows.setdefault((story, stop), []).append((number, y))
                else:
                    dropped += 1
        widths.append(shards.card.subjects[subject].targets)
    if not rows:
        raise DataError(
            f"no volume of {', '.join(stories)} has a history of {history} TRs",
            "shorten search.space.history or take longer stories",
        )
    first = np.concatenate([[0], np.cumsum(widths)])
    ordered = sorted(rows, key=lambda key: (stories.index(key[0]), key[1]))
    joint = np.full((len(ordered), first[-1]), np.nan, np.float32)
    for row, key in enumerate(ordered):
        for number, y in rows[key]:
            joint[row, first[number] : first[number + 1]] = y
    return Windows(
        story=np.array([story for story, _ in ordered]),
        stop=np.array([stop for _, stop in ordered], np.int64),
        y=joint,
        subject=np.repeat(np.array(subjects), widths),
        dropped=dropped,
    )
