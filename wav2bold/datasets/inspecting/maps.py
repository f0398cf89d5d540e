"""The quality page's maps of the brain, and why there are none."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wav2bold.datasets.inspecting.facts import Facts
from wav2bold.datasets.inspecting.standouts import MOST_SHOWN, Shown, group_mean, mapped_subjects
from wav2bold.datasets.shards import Shards
from wav2bold.pages.brains import amount_scale, as_shown, can_map, how_seen, no_brain, score_scale
from wav2bold.pages.painter import Painter
from wav2bold.pages.words import some

MEASURES = {"ceiling": "Noise ceiling", "tsnr": "tSNR"}


@dataclass(frozen=True)
class _Begun:
    """A map that is being drawn.  alt: what is to be seen, for those who don't see it."""

    png: Future[bytes]
    alt: str

    def shown(self, title: str) -> dict[str, Any]:
        return as_shown(self.png.result(), title, self.alt)


def begin_maps(
    shards: Shards, facts: Facts, shown: Sequence[Shown], painter: Painter
) -> Callable[[], dict[str, Any]]:
    """Ceiling and tSNR on the brain: of every subject, or of all together if they are many.

    The painter draws them meanwhile; calling what this gives waits for them.
    """
    many = len(facts.subjects) > MOST_SHOWN
    tables: dict[str, pd.DataFrame] = {}
    columns = [
        column
        for column in MEASURES
        if any(math.isfinite(getattr(one, column) or math.nan) for one in facts.subjects)
    ]
    lacking = [said for column, said in _absent(facts).items() if column not in columns]
    own = {one.name: shards.targets(one.name) for one in shown} if columns else {}
    if columns and all(can_map(table, facts.space) for table in own.values()):
        if many:
            everyone = [one.name for one in facts.subjects]
            tables[f"Mean of {len(everyone)}"] = group_mean(shards.target_table, everyone, columns)
        tables |= {name: own[name] for name in mapped_subjects(facts, shown)}
    elif columns:
        lacking.append(no_brain(own[shown[0].name], facts.space))
    drawn: dict[str, dict[str, _Begun]] = {}
    scales = []
    for column in columns if tables else ():
        values = {name: table[column].to_numpy(np.float64) for name, table in tables.items()}
        scale = (score_scale if column == "ceiling" else amount_scale)(*values.values())
        label = MEASURES[column]
        drawn[label] = {
            name: _Begun(
                painter.draw(table, values[name], scale),
                f"{label} of {name}, mean {np.nanmean(values[name]):.3g}",
            )
            for name, table in tables.items()
        }
        scales.append(scale.legend("0", f"{scale.high:.{2 if scale.high < 10 else 0}f}", label))
    glass = any("vertex" not in table for table in tables.values())
    seen = how_seen(facts.space, glass) if tables else ""

    def finish() -> dict[str, Any]:
        return {
            "people": _rows(drawn),
            "scales": scales,
            "glass": glass,
            "caption": seen,
            "lacking": " ".join(lacking),
        }

    return finish


def _rows(drawn: Mapping[str, Mapping[str, _Begun]]) -> list[dict[str, Any]]:
    """A row for each measure, with a map for each subject; if that is one, a row of all its measures."""
    names = list(next(iter(drawn.values()), ()))
    if len(names) == 1:
        return [{"name": names[0], "maps": [maps[names[0]].shown(label) for label, maps in drawn.items()]}]
    return [
        {"name": label, "maps": [one.shown(name) for name, one in maps.items()]}
        for label, maps in drawn.items()
    ]


def _absent(facts: Facts) -> dict[str, str]:
    """Why there is no map of something."""
    told = any(one.tsnr is not None for one in facts.subjects)
    return {
        "ceiling": f"No target has a noise ceiling, so there is no map of it. {_no_ceiling(facts)}",
        "tsnr": "No target has a tSNR."
        if told
        else "These shards don't say the tSNR of their targets, so there is no map of it.",
    }


def _no_ceiling(facts: Facts) -> str:
    """What of the recordings tells no ceiling, as far as the shards say (datasets/sources.py decides)."""
    repeated = [
        story.name
        for story in facts.stories
        if any(len(one.volumes.get(story.name, ())) > 1 for one in facts.subjects)
    ]
    held = "Stories that the study tests on take no part unless targets.ceiling_from_test is true."
    if repeated:
        return f"Somebody heard {some(repeated)} more than once, but that was not used, or told none. {held}"
    if any(story.subjects > 1 for story in facts.stories):
        return (
            "Nobody heard a story twice, and no two people who heard the same one could be compared: that "
            "takes a space that means the same in both, one grid, volumes at the same times in the story, "
            "and a story that the study trains on, or any if targets.ceiling_from_test is true."
        )
    return "No story was heard twice, neither by one person nor by two."
