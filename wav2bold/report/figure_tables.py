"""The numbers of the report's figures, as tables."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.evaluation.evaluated import Evaluation
from wav2bold.pages.numbers import numbers
from wav2bold.report.findings import Findings
from wav2bold.report.flow import flow_table
from wav2bold.report.maps import map_table
from wav2bold.report.pictures import BINS
from wav2bold.trainables.scores import brain_score
from wav2bold.tuning.subset_scores import trained

MAP_DIGITS = 4
"""Of r of each target: more than its noise leaves."""


def tested_tables(
    findings: Findings, before: NDArray[np.float64], after: NDArray[np.float64], *, mapped: bool
) -> dict[str, dict[str, Any]]:
    """What `figures.html` shows of the numbers of each figure about the test, by figure.

    before, after: (V,) r of everyone's targets, finite.  mapped: whether there are brain maps.
    """
    found = {
        "subjects": numbers("subjects", _subjects(findings)),
        "gains": numbers("scores", gain_table(findings)),
        "distributions": numbers("distributions", _distributions(before, after)),
    }
    if mapped:
        found["maps"] = numbers("targets", map_table(findings), MAP_DIGITS)
    if findings.inside:
        found["flow"] = numbers("encoder", flow_table(findings))
    return found


def sweep_tables(findings: Findings) -> dict[str, dict[str, Any]]:
    """Likewise of figures about the sweep, and about subsets if there are any."""
    found = {"sweep": numbers("trials", _sweep(findings))}
    if findings.subsets:
        found["subsets"] = numbers("subsets", _subsets(findings))
    return found


def _subjects(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "subject": name,
                "noise_ceiling": brain_score(findings.ceiling(name)),
                **one.intervals["frozen"].columns("frozen"),
                **one.intervals["ridge"].columns("refined"),
                "targets": len(one.frozen),
                "volumes": one.volumes,
            }
            for name, one in findings.best.items()
        ]
    )


def gain_table(findings: Findings) -> pd.DataFrame:
    """All that tables 1 and 2 tell and more: a row for each subject and configuration."""
    return pd.DataFrame(
        [
            _gain_row(name, role, one, brain_score(findings.ceiling(name)))
            for name in findings.best
            for role, found in (
                ("paper", findings.paper),
                ("best", findings.best),
                ("stimuli", findings.pretrained),
            )
            if (one := found.get(name)) is not None
        ]
    )


def _gain_row(subject: str, role: str, one: Evaluation, ceiling: float) -> dict[str, Any]:
    scores: dict[str, float] = {}
    for name, interval in one.intervals.items():
        scores |= interval.columns(name)
    return {
        "subject": subject,
        "configuration": role,
        "noise_ceiling": ceiling,
        **scores,
        "p_ridge": one.gain_ridge.p,
        "p_head": one.gain_head.p,
        "blocks": one.gain_ridge.blocks,
        **{f"r2_{name}": brain_score(values) for name, values in one.r2.items()},
        **{f"white_{name}": brain_score(values) for name, values in one.white.items()},
        **{f"predicted_{name}": int(values.sum()) for name, values in one.predicted.items()},
        "improved": int(one.improved.sum()),
        "targets": len(one.frozen),
        "volumes": one.volumes,
    }


def _distributions(before: NDArray[np.float64], after: NDArray[np.float64]) -> pd.DataFrame:
    """How many targets lie in each bin."""
    edges = np.histogram_bin_edges(np.concatenate([before, after]), BINS)
    change = after - before
    parts = []
    for name, values, bins in (
        ("frozen", before, edges),
        ("refined", after, edges),
        ("difference", change, np.histogram_bin_edges(change, BINS)),
    ):
        targets, _ = np.histogram(values, bins)
        parts.append(pd.DataFrame({"r": name, "from": bins[:-1], "to": bins[1:], "targets": targets}))
    return pd.concat(parts, ignore_index=True)


def _sweep(findings: Findings) -> pd.DataFrame:
    """A row for each report of each trial: of an epoch, or of a subject."""
    return pd.DataFrame(
        [
            {
                "trial": trial.number,
                "status": trial.status.lower(),
                "history": trial.configuration.history,
                ("epoch" if trial.reduce is None else "subjects"): number + (trial.reduce is not None),
                "score": value,
                "best_score": trial.best_score,
            }
            for trial in findings.trials
            for number, value in enumerate(trial.scores)
        ]
    )


def _subsets(findings: Findings) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "subset": one.name,
                "refined": trained(one.unfrozen),
                "parameters": one.parameters,
                "before": one.before,
                "after": one.after,
                "gain": one.gain,
                "change": one.change,
                "helped": one.helped,
                "subjects": len(one.subjects),
            }
            for one in findings.subsets
        ]
    )
