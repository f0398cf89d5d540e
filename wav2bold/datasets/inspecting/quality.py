"""The quality page of a folder of shards: one HTML file that asks nothing of the network.

However many subjects there are, it opens the recordings of a few and the tables of targets of all.
"""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from wav2bold.datasets.inspecting import charts
from wav2bold.datasets.inspecting.facts import Facts
from wav2bold.datasets.inspecting.listing import cleaning_words, totals, volumes_words
from wav2bold.datasets.inspecting.maps import begin_maps
from wav2bold.datasets.inspecting.signals import change, clear_peak, envelope, lagged_correlation, zscored
from wav2bold.datasets.inspecting.standouts import (
    MOST_SHOWN,
    Shown,
    best_targets,
    shared_story,
    shown_runs,
    shown_subjects,
)
from wav2bold.datasets.shards import Shards
from wav2bold.pages.look import fill
from wav2bold.pages.painter import Painter
from wav2bold.pages.words import count, decimals, listed, simulated_note
from wav2bold.progress import Progress, silent

SHOWN_S = 180.0
"""Seconds of a story over which BOLD is drawn beside its sound: more would hide the lag."""
LAGS_S = (-6.0, 18.0)
MOST_STORIES = 4
"""Stories of each subject over which the lag is looked for."""
MOST_LISTED = 60
"""Rows of a table of subjects, and lines of what is unlike the others."""


def render(shards: Shards, facts: Facts, painter: Painter, progress: Progress = silent) -> str:
    """The whole page. Raises DataError if a recording that is to be drawn is missing or damaged."""
    shown = shown_subjects(facts)
    steps = len(shown) + 3
    progress("maps", 0, steps)
    finish_maps = begin_maps(shards, facts, shown, painter)
    carpets = []
    for number, one in enumerate(shown):
        progress(f"carpet of {one.name}", number + 1, steps)
        carpets.append(_carpet(shards, facts, one, f"carpet-{number}"))
    progress("sound and BOLD", steps - 2, steps)
    heard = _heard(shards, facts, [one.name for one in shown])
    progress("page", steps - 1, steps)
    template = files("wav2bold.datasets.inspecting").joinpath("quality.html").read_text(encoding="utf-8")
    few = len(facts.subjects) <= MOST_SHOWN
    page = fill(
        template,
        title=f"{facts.name or 'Shards'}: quality of the recordings",
        heading="Quality of the recordings",
        subtitle=" \N{MIDDLE DOT} ".join(
            filter(None, (facts.name, f"TR {facts.tr_s:g} s", f"space {facts.space}"))
        ),
        notes=list(filter(None, [simulated_note(facts.name)])),
        footer=f"Made by wav2bold from data set {facts.digest}.",
        totals=totals(facts),
        cleaning=cleaning_words(facts),
        few=few,
        names=[one.name for one in facts.subjects],
        stories=_stories(facts, few),
        subjects=_subjects(facts, shown),
        all_subjects=len(facts.subjects) <= MOST_LISTED,
        measured=any(one.tsnr is not None for one in facts.subjects),
        unlike=[f"{one.subject}: {one.words}" for one in facts.unlike[:MOST_LISTED]],
        more_unlike=max(0, len(facts.unlike) - MOST_LISTED),
        group=[] if few else _group(facts),
        overview=None if few else _svg(_overview(facts)),
        carpets=carpets,
        heard=heard,
        maps=finish_maps(),
    )
    progress("page", steps, steps)
    return page


def _stories(facts: Facts, few: bool) -> list[dict[str, Any]]:
    """Table 1: a row per story; volumes by subject if these are few, else over all of them."""
    rows = []
    for story in facts.stories:
        cells = [f"{story.seconds:,.1f}"]
        if few:
            cells += [volumes_words(one.volumes.get(story.name, ())) for one in facts.subjects]
        else:
            cells += [f"{story.subjects:,}", f"{story.recordings:,}", f"{story.median_volumes:,.0f}"]
            cells += [f"{story.least_volumes:,}", f"{story.most_volumes:,}"]
        rows.append({"name": story.name, "cells": cells})
    return rows


def _subjects(facts: Facts, shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Table 2: a row per subject; of very many, only those that are drawn."""
    names = {one.name for one in shown}
    everyone = len(facts.subjects) <= MOST_LISTED
    return [
        {
            "name": one.name,
            "cells": [
                *map("{:,}".format, (len(one.volumes), one.recordings, one.total)),
                f"{one.seconds:,.0f}",
                f"{one.targets:,}",
                decimals(one.ceiling),
                "" if one.tsnr is None else decimals(one.tsnr, 1),
            ],
        }
        for one in facts.subjects
        if everyone or one.name in names
    ]


def _group(facts: Facts) -> list[Markup]:
    """How subjects are spread."""
    measured = {
        "mean noise ceiling": [one.ceiling for one in facts.subjects],
        "mean tSNR": [one.tsnr for one in facts.subjects if one.tsnr is not None],
        "targets": [float(one.targets) for one in facts.subjects],
        "minutes of BOLD": [one.seconds / 60 for one in facts.subjects],
    }
    finite = {label: [one for one in values if math.isfinite(one)] for label, values in measured.items()}
    return [
        _svg(charts.spread(values, label, f"spread-{number}"))
        for number, (label, values) in enumerate(finite.items())
        if len(set(values)) > 1
    ]


def _overview(facts: Facts) -> str:
    """Who heard what."""
    columns = {one.name: place for place, one in enumerate(facts.subjects)}
    rows = {one.name: place for place, one in enumerate(facts.stories)}
    heard = np.array([[name in one.volumes for one in facts.subjects] for name in rows])
    odd = [(rows[one.story], columns[one.subject]) for one in facts.unlike if one.story]
    return charts.overview(list(columns), list(rows), heard, odd)


def _carpet(shards: Shards, facts: Facts, shown: Shown, identifier: str) -> dict[str, Any]:
    """One subject's carpet: its targets by falling ceiling, or in their own order where there is none."""
    subject = next(one for one in facts.subjects if one.name == shown.name)
    runs = shown_runs(facts, subject)
    ceiling = shards.targets(subject.name)["ceiling"].to_numpy(np.float64)
    order = np.argsort(-np.nan_to_num(ceiling, nan=-1.0), kind="stable")
    order = order[:: -(-len(order) // charts.MOST_ROWS)]
    pictures = []
    for story, place in runs:
        bold = shards.repeat(subject.name, story, place)
        name = story if len(subject.volumes[story]) == 1 else f"{story} {place + 1}"
        pictures.append(charts.RunPicture(name, bold.y[:, order], change(bold.y)))
    return {
        "name": subject.name,
        "why": shown.why,
        "svg": _svg(charts.carpet(identifier, subject.name, pictures)),
        "runs": f"{len(runs)} of {count(subject.recordings, 'recording')}"
        if len(runs) < subject.recordings
        else count(subject.recordings, "recording"),
    }


def _heard(shards: Shards, facts: Facts, names: Sequence[str]) -> dict[str, Any]:
    """A story that most of them heard: its loudness beside their BOLD; and the lag between the two."""
    story = shared_story(facts, names)
    reach = [round(seconds / facts.tr_s) for seconds in LAGS_S]
    steps = np.arange(reach[0], reach[1] + 1)
    heard = {
        name: sorted(shards.card.subjects[name].stories, key=lambda one: one != story)[:MOST_STORIES]
        for name in names
    }
    tables = {name: shards.targets(name) for name in names}
    told = _responses(shards, facts.tr_s, heard, {name: best_targets(tables[name]) for name in names})
    r, peaks, flat = {}, [], []
    for name in names:
        own = [told[name, one] for one in heard[name]]
        # a gap as long as the longest lag: no story is compared with the next one
        gap = np.full(max(map(abs, reach)), np.nan)
        leads = np.concatenate([part for one in own for part in (zscored(one.loudness), gap)])
        follows = np.concatenate([part for one in own for part in (zscored(one.bold), gap)])
        r[name] = lagged_correlation(leads, follows, steps)
        peak = clear_peak(r[name], int(np.isfinite(leads).sum()))
        if peak is None:
            flat.append(name)
        else:
            peaks.append(f"{facts.tr_s * steps[peak]:.1f} s in {name} (r {decimals(r[name][peak], 2)})")
    most = max(map(len, heard.values()))
    seconds = next(one.seconds for one in facts.stories if one.name == story)
    shown = [told[name, story] for name in names if story in heard[name]]
    said = [f"Highest at {listed(peaks)}."] if peaks else []
    said += [f"No peak that chance can't explain in {listed(flat)}."] if flat else []
    return {
        "story": story,
        "stories": "that story" if most == 1 else f"up to {most} stories of each subject",
        "until": f"{SHOWN_S:g}",
        "whole": seconds <= SHOWN_S,
        "capped": all(np.isfinite(table["ceiling"]).any() for table in tables.values()),
        "peaks": " ".join(said),
        "responses": _svg(charts.responses(story, shown, SHOWN_S)),
        "lags": _svg(charts.lags([facts.tr_s * step for step in steps.tolist()], r)),
    }


def _responses(
    shards: Shards,
    tr_s: float,
    heard: Mapping[str, Sequence[str]],
    best: Mapping[str, NDArray[np.intp]],
) -> dict[tuple[str, str], charts.Response]:
    """What each subject's best targets did in each of its stories. Holds the sound of one story at a time."""
    told = {}
    for story in dict.fromkeys(one for stories in heard.values() for one in stories):
        sound = shards.audio(story)
        for name in (name for name, stories in heard.items() if story in stories):
            bold = shards.bold(name, story)
            loudness = envelope(sound, bold.time_s, tr_s)
            mean = bold.y[:, best[name]].mean(axis=1, dtype=np.float64)
            told[name, story] = charts.Response(name, bold.time_s, loudness, mean)
    return told


def _svg(text: str) -> Markup:
    return Markup(text)  # noqa: S704  # made by matplotlib, which escapes names
