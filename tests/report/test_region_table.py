"""The table of regions says what their scores say, and nothing where regions have no names."""

from dataclasses import replace

import made_up
import numpy as np
import pytest
from parsed import Parsed
from scipy import stats

from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.regions import RegionScore
from wav2bold.report.figure_tables import gain_table
from wav2bold.report.findings import Findings
from wav2bold.report.page import render
from wav2bold.report.region_table import MOST_ROWS, region_table, regions_section

REGIONS = 25


def region(frozen: float, gain: float) -> RegionScore:
    frozen_, refined, gained = (
        Interval(one, one - 0.02, one + 0.02) for one in (frozen, frozen + gain, gain)
    )
    return RegionScore(frozen_, refined, gained, 12, 7, 3)


@pytest.fixture(scope="module")
def findings() -> Findings:
    found, random = made_up.findings(3, "T1w", 20, 1), np.random.default_rng(5)
    best = {
        name: replace(
            one,
            regions={
                f"R{number}": region(0.01 * number, random.normal(0.02, 0.01)) for number in range(REGIONS)
            },
        )
        for name, one in found.best.items()
    }
    return replace(found, best=best)


def test_regions_are_means_over_subjects_with_students_interval(findings: Findings) -> None:
    section = regions_section(findings)
    assert section is not None
    assert len(section["rows"]) == section["shown"] == MOST_ROWS
    table = region_table(findings)
    assert len(table) == 3 * REGIONS
    for name, subjects, targets, frozen, refined, within, gain, interval, predicted, improved in section[
        "rows"
    ]:
        own = table[table["region"] == name]
        for kind, ends_told in (("refined", within), ("gain", interval)):
            ends = stats.ttest_1samp(own[kind], 0).confidence_interval(0.95)
            told = [float(one.replace("\N{MINUS SIGN}", "-")) for one in ends_told.split(", ")]
            assert told == pytest.approx([ends.low, ends.high], abs=5.01e-4)
        means = own[["frozen", "refined", "gain"]].mean()
        told = [float(one.replace("\N{MINUS SIGN}", "-")) for one in (frozen, refined, gain)]
        assert told == pytest.approx(means.tolist(), abs=5.01e-4)
        assert (subjects, targets, predicted, improved) == ("3", "36", "21", "9")
    scores = [float(row[4]) for row in section["rows"]]
    assert scores == sorted(scores, reverse=True)


def test_one_subjects_interval_is_that_over_time(findings: Findings) -> None:
    alone = replace(findings, best={"sub-001": findings.best["sub-001"]})
    section = regions_section(alone)
    assert section is not None
    own = alone.best["sub-001"].regions[section["rows"][0][0]].gain
    assert section["rows"][0][7] == f"{own.low:+.3f}, {own.high:+.3f}".replace("-", "\N{MINUS SIGN}")


def test_the_page_has_the_table_only_where_regions_have_names(findings: Findings) -> None:
    page = Parsed(render(findings))
    assert "The 20 of 25 regions" in " ".join(page.text.split())
    assert [attrs["download"] for tag, attrs in page.elements if attrs.get("download") == "regions.csv"]
    bare = {name: replace(one, regions={}) for name, one in findings.best.items()}
    assert regions_section(replace(findings, best=bare)) is None


def test_the_scores_file_has_r2_and_every_interval_of_each_configuration(findings: Findings) -> None:
    table = gain_table(findings).set_index(["subject", "configuration"])
    assert len(table) == 6
    for (subject, role), row in table.iterrows():
        one = (findings.best if role == "best" else findings.paper)[subject]
        assert row["r2_ridge"] == pytest.approx(np.mean(one.r2["ridge"]))
        ends = one.intervals["gain_head"]
        assert row[["gain_head", "gain_head_low", "gain_head_high"]].tolist() == [
            ends.value,
            ends.low,
            ends.high,
        ]
        assert (row["p_ridge"], row["targets"], row["volumes"]) == (one.gain_ridge.p, 20, 186)
