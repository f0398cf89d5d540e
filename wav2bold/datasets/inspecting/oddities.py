"""Which subjects and recordings are unlike the others."""

import math
from collections.abc import Iterator, Sequence
from statistics import median

from wav2bold.datasets.inspecting.facts import Oddity, StoryFacts, SubjectFacts
from wav2bold.pages.words import count, some

FEW = 0.9
"""Share of the median above which nobody has little of anything: a tenth less is like the others."""
ODD_LENGTH = 0.05
"""Share of a story's median number of volumes by which a recording may differ, and be like the others."""
FEW_VOLUMES = 2
"""By which it may differ in any case: scanners are stopped by hand."""
FAR = 3.0
"""Robust standard deviations (1.4826 times the median absolute deviation) below the median: a low value."""
NAMED = 4
"""Stories of those that somebody did not hear that are named."""
ENOUGH = 5
"""Subjects without which nobody is told to be far from the others."""


def unlike(subjects: Sequence[SubjectFacts], stories: Sequence[StoryFacts], tr_s: float) -> Iterator[Oddity]:
    """What stands out, in order of subjects."""
    if not subjects:
        return
    usual = median(one.targets for one in subjects)
    missing = _missing(subjects, stories)
    of_story = {story.name: story for story in stories}
    floors = {
        what: _floor([value for one in subjects if (value := getattr(one, what)) is not None])
        for what in ("ceiling", "tsnr")
    }
    for one in subjects:
        if one.name in missing:
            yield Oddity(one.name, None, "stories", missing[one.name])
        if one.targets < FEW * usual:
            yield Oddity(
                one.name, None, "targets", f"has {one.targets:,} targets, the median is {usual:,.0f}"
            )
        for what, label in (("ceiling", "mean ceiling"), ("tsnr", "mean tSNR")):
            value = getattr(one, what)
            if value is not None and value < floors[what]:
                yield Oddity(one.name, None, what, f"has a {label} of {value:.3g}, far below the others")
        for name, counts in one.volumes.items():
            for number, volumes in enumerate(counts, start=1):
                said = _odd_length(volumes, of_story[name], tr_s)
                if said:
                    which = f"recording {number} " if len(counts) > 1 else ""
                    yield Oddity(one.name, name, "length", which + said)


def _missing(subjects: Sequence[SubjectFacts], stories: Sequence[StoryFacts]) -> dict[str, str]:
    """Who lacks stories, and which.

    Where most subjects heard all that most heard, whoever did not; else only who heard far fewer than others.
    """
    common = [story.name for story in stories if 2 * story.subjects > len(subjects)]
    lacking = {one.name: [name for name in common if name not in one.volumes] for one in subjects}
    if common and 2 * sum(map(bool, lacking.values())) < len(subjects):
        return {
            name: f"did not hear {some(names, NAMED)}, which most others did"
            for name, names in lacking.items()
            if names
        }
    heard = [len(one.volumes) for one in subjects]
    floor = _floor(heard)
    return {
        one.name: f"heard {count(len(one.volumes), 'story')}, the median is {median(heard):g}"
        for one in subjects
        if len(one.volumes) < floor
    }


def _odd_length(volumes: int, story: StoryFacts, tr_s: float) -> str:
    """How a recording's length is odd; empty if it is not.

    Where all recordings of a story were cut short alike, as some are published, none of them is odd.
    """
    apart = volumes - story.median_volumes
    if abs(apart) <= max(FEW_VOLUMES, ODD_LENGTH * story.median_volumes):
        return ""
    if apart < 0 and volumes * tr_s < story.seconds:
        return f"has {volumes:,} volumes ({volumes * tr_s:,.0f} s), the story lasts {story.seconds:,.0f} s"
    of_two = story.recordings < 3  # each is as far from their median as the other
    return "" if of_two else f"has {volumes:,} volumes, the median is {story.median_volumes:,.0f}"


def _floor(values: Sequence[float]) -> float:
    """The value below which one is far from the others; minus infinity if there are too few to tell."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < ENOUGH:
        return -math.inf
    middle = median(finite)
    far = middle - FAR * 1.4826 * median(abs(value - middle) for value in finite)
    return min(far, FEW * middle)
