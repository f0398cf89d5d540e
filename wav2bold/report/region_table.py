"""The report's table of regions: where the refined encoder predicts better, over subjects."""

import math
from typing import Any

import pandas as pd

from wav2bold.evaluation.across_subjects import summary
from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.regions import RegionScore
from wav2bold.pages.numbers import numbers
from wav2bold.pages.words import count, score, signed
from wav2bold.report.findings import Findings
from wav2bold.report.words import interval

MOST_ROWS = 20
"""Regions on the page, those that the refined encoder predicts best; the file has all."""


def regions_section(findings: Findings) -> dict[str, Any] | None:
    """What page.html shows of regions; None where none has a name."""
    found = by_region(findings)
    if not found:
        return None
    means = {name: _over_subjects(list(own.values())) for name, own in found.items()}
    order = sorted(means, key=lambda name: -_finite(means[name]["refined"].value))
    return {
        "rows": [[name, *_cells(list(found[name].values()), means[name])] for name in order[:MOST_ROWS]],
        "shown": min(len(order), MOST_ROWS),
        "regions": count(len(order), "region"),
        "subjects": len(findings.best),
        "numbers": numbers("regions", region_table(findings)),
    }


def by_region(findings: Findings) -> dict[str, dict[str, RegionScore]]:
    """Scores of each region by subject, in the order in which regions come."""
    found: dict[str, dict[str, RegionScore]] = {}
    for subject, one in findings.best.items():
        for name, region in one.regions.items():
            found.setdefault(name, {})[subject] = region
    return found


def region_table(findings: Findings) -> pd.DataFrame:
    """A row for each region and subject, with intervals over time."""
    return pd.DataFrame(
        [
            {
                "region": name,
                "subject": subject,
                **one.frozen.columns("frozen"),
                **one.refined.columns("refined"),
                **one.gain.columns("gain"),
                "targets": one.targets,
                "predicted": one.predicted,
                "improved": one.improved,
            }
            for name, own in by_region(findings).items()
            for subject, one in own.items()
        ]
    )


def _over_subjects(own: list[RegionScore]) -> dict[str, Interval]:
    """Of several subjects the means with Student's interval over them; of one, the interval over time."""
    if len(own) == 1:
        return {"frozen": own[0].frozen, "refined": own[0].refined, "gain": own[0].gain}
    return {
        kind: summary([getattr(one, kind).value for one in own]).mean
        for kind in ("frozen", "refined", "gain")
    }


def _cells(own: list[RegionScore], means: dict[str, Interval]) -> list[str]:
    targets, predicted, improved = (
        sum(getattr(one, name) for one in own) for name in ("targets", "predicted", "improved")
    )
    return [
        f"{len(own):,}",
        f"{targets:,}",
        score(means["frozen"].value),
        score(means["refined"].value),
        interval(means["refined"], ", "),
        signed(means["gain"].value),
        interval(means["gain"], ", "),
        f"{predicted:,}",
        f"{improved:,}",
    ]


def _finite(value: float) -> float:
    """For sorting: what has no score comes last."""
    return value if math.isfinite(value) else -math.inf
