"""The report as one HTML file that asks nothing of the network."""

import itertools
import math
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from wav2bold.evaluation.evaluated import Evaluation
from wav2bold.pages.explore import library
from wav2bold.pages.look import fill
from wav2bold.pages.words import count, decimals, listed, score, signed
from wav2bold.report import pictures, words
from wav2bold.report.efficiency_section import efficiency_section
from wav2bold.report.explored import EXPLORED, explored
from wav2bold.report.figure_tables import sweep_tables, tested_tables
from wav2bold.report.findings import Findings
from wav2bold.report.flow import flow
from wav2bold.report.histories import histories
from wav2bold.report.inside_page import inside_section
from wav2bold.report.maps import NO_MAPS, maps
from wav2bold.report.methods import methods
from wav2bold.report.region_table import regions_section
from wav2bold.report.search_section import search_section
from wav2bold.report.standing import failed, notices, unrefined
from wav2bold.report.superb_section import superb_section
from wav2bold.report.words import percent
from wav2bold.trainables.scores import brain_score
from wav2bold.tuning import trial_words
from wav2bold.tuning.heat_map import heat_map_svg
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.subset_scores import SubsetScore, trained

PARTS = ("flow.html", "inside.html", "histories.html", "search.html", "efficiency.html", "superb.html")
"""Templates of sections, which page.html includes."""
UNTESTED: Mapping[str, Any] = {
    "charts": {},
    "tables": {},
    "maps": NO_MAPS,
    "flow": None,
    "regions": None,
    "inside": None,
}
"""In place of what `_tested` gives where nothing was."""


def render(findings: Findings, *, interactive: bool = False) -> str:
    """The whole page, with its pictures in it.

    interactive: whether some of them can be explored, too, which takes a script of 2 MB.
    """
    folder = files("wav2bold.report")
    template, *parts = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", *PARTS))
    card, winner, best = findings.card, findings.winner, list(findings.best.values())
    charts = {
        "epochs": pictures.epochs(findings.trials, winner),
        "subset_gains": heat_map_svg(findings.subsets, "gain"),
        "subset_changes": heat_map_svg(findings.subsets, "change"),
    }
    tested: Mapping[str, Any] = _tested(findings) if best else UNTESTED
    charts |= tested["charts"]
    search = search_section(findings)
    mapped = bool(tested["maps"].people)
    found = explored(findings, search["shares"], mapped=mapped) if interactive else {}
    stopped = sum(trial_words.status(trial).startswith("stopped") for trial in findings.trials)
    subtitle = (
        f"study {findings.study.name}",
        words.dataset_name(findings),
        count(len(best), "subject") if best else "",
        f"tested on {listed(findings.stories.test)}" if best else "not tested yet",
        count(len(findings.trials), "trial"),
    )
    return fill(
        template,
        dict(zip(PARTS, parts, strict=True)),
        heading="Refining a speech model on brain activity",
        title=f"{findings.study.name}: refining a speech model on brain activity",
        subtitle=" \N{MIDDLE DOT} ".join(filter(None, subtitle)),
        notes=_notes(findings),
        answer=words.answer(findings),
        tested=bool(best),
        figure=partial(next, itertools.count(1)),
        charts={name: Markup(svg) for name, svg in charts.items()},  # noqa: S704  # made by matplotlib
        tables=tested["tables"] | sweep_tables(findings),
        stopped=stopped,
        validation=listed(findings.stories.validation),
        best=(
            f"Trial {winner.number} had the highest score on the validation stories, "
            f"{score(winner.best_score)}{words.before_stage2(winner)}. "
            + words.configuration(winner.configuration, card.tr_s)
        ),
        certainty=findings.certainty[:1].upper() + findings.certainty[1:],
        yaml=winner.configuration.as_yaml().rstrip(),
        trials=[_trial(trial, winner) for trial in findings.trials],
        failed=failed(findings.trials),
        histories=histories(findings.trials, winner, findings.study.search.space.history),
        search=search,
        efficiency=efficiency_section(findings.efficiency),
        superb=superb_section(findings.superb),
        subsets=[_subset(one) for one in findings.subsets],
        facts=methods(findings),
        explored={name: found.get(name) for name in EXPLORED},
        library=library() if found else None,
        footer=f"Made by wav2bold from data set {card.digest} and sweep {findings.sweep}.",
        **{name: value for name, value in tested.items() if name not in ("charts", "tables")},
    )


def _notes(findings: Findings) -> list[str]:
    """What a reader has to know first."""
    return [
        *notices(findings.standing, findings.trials, findings.study.search.trials),
        *filter(
            None,
            (
                unrefined(findings.winner.subjects, list(findings.best)),
                words.data_note(findings),
                words.mismatch(findings),
            ),
        ),
    ]


def _tested(findings: Findings) -> dict[str, Any]:
    """What the page shows of the test, by its names in the template."""
    best = list(findings.best.values())
    ceilings = [brain_score(findings.ceiling(one.subject)) for one in best]
    before, after = np.concatenate([one.frozen for one in best]), np.concatenate([one.ridge for one in best])
    paired = np.isfinite(before) & np.isfinite(after)
    charts = {
        "subjects": pictures.subjects(
            list(findings.best),
            [one.scores["frozen"] for one in best],
            [one.scores["ridge"] for one in best],
            ceilings,
        ),
        "distributions": pictures.distributions(before[paired], after[paired]),
        "differences": pictures.differences((after - before)[paired]),
    }
    drawn = maps(findings)
    return {
        "charts": charts,
        "maps": drawn,
        "tables": tested_tables(findings, before[paired], after[paired], mapped=bool(drawn.people)),
        "repeats": any(map(math.isfinite, ceilings)),
        "improved": _share(before[paired], after[paired]),
        "paired": f"{int(paired.sum()):,}",
        "control": bool(findings.pretrained),
        "scores": _scores(findings),
        "gains": _gains(findings),
        "flow": flow(findings),
        "regions": regions_section(findings),
        "inside": inside_section(findings),
    }


def _trial(trial: Trial, winner: Trial) -> dict[str, Any]:
    """Table 3: its row."""
    chosen = trial.configuration
    return {
        "number": trial.number,
        "roles": ["paper"] * (trial.number == 0) + ["best"] * (trial.number == winner.number),
        "status": trial_words.status(trial),
        "history": chosen.history,
        "unfrozen": trial_words.unfrozen(chosen),
        "layers": trial_words.layers(chosen),
        "rate": f"{chosen.encoder_lr:.2g}" if chosen.refines else "\N{EN DASH}",
        "penalty": f"{chosen.head_l2:.3g}",
        "score": score(trial.best_score),
    }


def _subset(one: SubsetScore) -> dict[str, Any]:
    """Table 4: its row."""
    return {
        "name": one.name,
        "trained": trained(one.unfrozen),
        "cells": [
            f"{one.parameters:,}",
            score(one.before),
            score(one.after),
            signed(one.gain),
            decimals(100 * one.change, 2),
            f"{one.helped} of {len(one.subjects)}",
        ],
    }


def _scores(findings: Findings) -> list[dict[str, Any]]:
    """Table 1: a row per subject, and their mean if there are several."""
    rows, numbers = [], []
    for subject, one in findings.best.items():
        paper = findings.paper.get(subject)
        values = [
            brain_score(findings.ceiling(subject)),
            one.scores["frozen"],
            paper.scores["ridge"] if paper else math.nan,
            paper.scores["head"] if paper else math.nan,
            one.scores["ridge"],
            one.scores["head"],
        ]
        numbers.append(values)
        rows.append(
            {
                "name": subject,
                "mean": False,
                "cells": _cells(values, paper is not None, _beside([one])) + _control(findings, [subject]),
            }
        )
    if len(rows) > 1:
        # the mean over some of the subjects beside the mean over all would invite a false comparison
        whole = [float(np.mean(column)) for column in np.array(numbers).T]
        everyone = set(findings.best) <= set(findings.paper)
        rows.append(
            {
                "name": "Mean",
                "mean": True,
                "cells": _cells(whole, everyone, _beside(list(findings.best.values())))
                + _control(findings, list(findings.best)),
            }
        )
    return rows


def _cells(values: list[float], paper: bool, beside: list[str]) -> list[dict[str, Any]]:
    top, frozen, *papers, ridge, head = values
    known = math.isfinite(top)

    def cell(text: str, missing: bool = False, span: int = 1) -> dict[str, Any]:
        return {"text": text, "missing": missing, "span": span}

    shares = (
        [cell(percent(frozen, top)), cell(percent(ridge, top))] if known else [cell("no repeats", True, 2)]
    )
    return [
        cell(score(top)) if known else cell("no repeats", True),
        cell(score(frozen)),
        *([cell(score(value)) for value in papers] if paper else [cell("not refined", True, 2)]),
        cell(score(ridge)),
        cell(score(head)),
        *shares,
        *map(cell, beside),
    ]


def _control(findings: Findings, subjects: list[str]) -> list[dict[str, Any]]:
    """Mean score of these subjects' encoders that were trained on the stimuli alone; no cell without any."""
    if not findings.pretrained:
        return []
    there = [findings.pretrained[name] for name in subjects if name in findings.pretrained]
    whole = len(there) == len(subjects)
    text = score(float(np.mean([one.scores["ridge"] for one in there]))) if whole else "not made"
    return [{"text": text, "missing": not whole, "span": 1}]


def _gains(findings: Findings) -> list[dict[str, Any]]:
    """Table 2: a row per subject and configuration."""
    return [
        {"name": subject, "role": role, "cells": _gain_cells(found[subject])}
        for subject in findings.best
        for role, found in (
            ("paper", findings.paper),
            ("best", findings.best),
            ("stimuli", findings.pretrained),
        )
        if subject in found
    ]


def _gain_cells(one: Evaluation) -> list[str]:
    gains = [
        text
        for gain, name in ((one.gain_ridge, "gain_ridge"), (one.gain_head, "gain_head"))
        for text in (signed(gain.gain), words.interval(one.intervals[name], ", "), words.p_value(gain))
    ]
    improved = f"{one.improved.sum():,}"
    return [score(one.scores["frozen"]), *gains, improved, str(one.volumes)]


def _beside(some: list[Evaluation]) -> list[str]:
    """Whitened brain score, and share of the targets that are predicted by more than chance.

    Each before and after, mean over subjects.
    """
    names = ("frozen", "ridge")
    white = [float(np.mean([brain_score(one.white[name]) for one in some])) for name in names]
    shares = [np.mean([one.predicted[name].mean() for one in some]) for name in names]
    return [*map(score, white), *(f"{100 * share:.0f}%" for share in shares)]


def _share(before: NDArray[np.float64], after: NDArray[np.float64]) -> str:
    return f"{100 * np.mean(after > before):.0f}%" if len(before) else "None"
