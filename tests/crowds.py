"""Shards of many people, written without Ray: BOLD follows the sound by a known lag, some people are odd."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wav2bold.config import Cleaning
from wav2bold.datasets import writing
from wav2bold.datasets.shards import (
    CARD_NAME,
    Bold,
    DatasetCard,
    Shards,
    StoryCard,
    SubjectCard,
    content_digest,
    open_shards,
    run_path,
    story_path,
    targets_path,
)

TR_S = 1.5
RATE_HZ = 16_000
FOLLOWS = 4
"""Volumes by which BOLD follows the sound."""


def numbered(what: str, count: int) -> list[str]:
    return [f"{what}{number:0{len(str(count))}d}" for number in range(1, count + 1)]


def loudness(volumes: int, seed: int) -> np.ndarray:
    """How loud each TR of a story is."""
    return 0.05 + 0.3 * np.random.default_rng([seed, 5]).random(volumes)


def sound(volumes: int, seed: int) -> np.ndarray:
    samples = round(TR_S * RATE_HZ)
    carrier = np.random.default_rng(seed).choice([-1.0, 1.0], volumes * samples)
    return (np.repeat(loudness(volumes, seed), samples) * carrier).astype(np.float32)


def recording(volumes: int, targets: int, seed: int, story: int) -> Bold:
    """Volume t ends TR t - 1 of the story. The first half of the targets follows the sound."""
    random = np.random.default_rng([seed, story])
    y = random.standard_normal((volumes, targets)).astype(np.float32)
    heard = loudness(max(volumes, 2), story)
    heard = (heard - heard.mean()) / heard.std()
    for t in range(FOLLOWS + 1, volumes):
        y[t, : targets // 2] += 2 * heard[t - 1 - FOLLOWS]
    t = np.arange(volumes, dtype=np.int32)
    return Bold(t, TR_S * t, (y - y.mean(0)) / y.std(0, ddof=1))


def places(targets: int, space: str, ceiling: float) -> pd.DataFrame:
    """The half that follows the sound has a ceiling, the other half a low one."""
    numbers = np.arange(targets)
    if space.startswith("fsaverage"):
        half = targets // 2
        where = {
            "hemisphere": np.where(numbers < half, "L", "R"),
            "vertex": (200 + numbers % half).astype("i4"),
        }
    else:
        where = {
            axis: (2 + numbers // step % 5).astype("i4") for axis, step in zip("ijk", (1, 5, 25), strict=True)
        }
        where |= {f"{axis}_mm": (6.0 * where[axis] - 60).astype("f4") for axis in "ijk"}
        where = {
            name.replace("i_", "x_").replace("j_", "y_").replace("k_", "z_"): v for name, v in where.items()
        }
    height = np.where(numbers < targets // 2, ceiling, 0.1).astype("f4")
    return pd.DataFrame({"target": numbers.astype("i4"), **where, "ceiling": height})


def crowd(
    root: Path,
    subjects: int,
    stories: int,
    volumes: int = 60,
    targets: int = 20,
    space: str = "fsaverage5",
    lengths: Mapping[tuple[int, int], Sequence[int]] = {},
    widths: Mapping[int, int] = {},
    ceilings: Mapping[int, float] = {},
    tsnr: bool = False,
    recorded: bool = True,
    told: bool = True,
    named: tuple[str, str] = ("sub-", "story"),
) -> Shards:
    """Subject i hears story j once, for `volumes`, unless `lengths[i, j]` says other recordings (or none).

    recorded: False writes no recordings.  told: False leaves volumes out of the card, as it once was.
    """
    people, names = numbered(named[0], subjects), numbered(named[1], stories)
    writing.claim(root)
    cards = {}
    for j, story in enumerate(names):
        if recorded:
            writing.write_story(story_path(root, story), sound(volumes, j), {})
    for i, subject in enumerate(people):
        width = widths.get(i, targets)
        heard = {story: list(lengths.get((i, j), [volumes])) for j, story in enumerate(names)}
        heard = {story: counts for story, counts in heard.items() if counts}
        for story, counts in heard.items():
            for repeat, count in enumerate(counts if recorded else [], start=1):
                run = recording(count, width, 1000 * i + repeat, names.index(story))
                writing.write_run(run_path(root, subject, story, repeat), run, "float32", {})
        table = places(width, space, ceilings.get(i, 0.5 + 0.001 * (i % 7)))
        if tsnr:
            table["tsnr"] = (40 + np.arange(width) + i).astype("f4")
        writing.write_targets(targets_path(root, subject), table, {})
        cards[subject] = SubjectCard(width, {s: len(c) for s, c in heard.items()}, heard if told else {})
    card = DatasetCard(
        tr_s=TR_S,
        space=space,
        subjects=cards,
        stories={story: StoryCard(volumes * TR_S, content_digest(story)) for story in names},
        cleaning=Cleaning().model_dump(mode="json"),
        inputs={},
        libraries={},
        digest="c" * 32,
        name="A crowd",
    )
    (root / CARD_NAME).write_text(card.to_json())
    return open_shards(root)
