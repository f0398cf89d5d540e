"""What can be turned and pointed at holds the findings' numbers, and costs nothing where it isn't wanted."""

import base64
import gzip
import json
import re
from dataclasses import replace
from typing import Any

import made_up
import matplotlib as mpl
import numpy as np
import pytest
from parsed import Parsed
from plotly.offline import get_plotlyjs

from wav2bold.config import Search
from wav2bold.pages.brains import score_scale
from wav2bold.pages.turned import UNSURE
from wav2bold.report.explored import EXPLORED, explored
from wav2bold.report.findings import Findings
from wav2bold.report.page import render
from wav2bold.report.tried import importances, scored
from wav2bold.tuning.best import pareto


def unpacked(packed: str) -> str:
    return gzip.decompress(base64.b64decode(packed)).decode()


@pytest.fixture(scope="module")
def findings() -> Findings:
    """Of a search with two goals and one subject, on the surface."""
    found = made_up.findings(1, trials=24)
    trials = tuple(replace(one, trained_parameters=100 * (one.number % 7 + 1)) for one in found.trials)
    study = found.study.model_copy(update={"search": Search(sampler="nsgaii")})
    return replace(found, trials=trials, study=study)


@pytest.fixture(scope="module")
def figures(findings: Findings) -> dict[str, dict[str, Any]]:
    """By name, as the browser unpacks them."""
    shown = explored(findings, importances(findings.trials), mapped=True)
    assert tuple(shown) == EXPLORED
    return {name: json.loads(unpacked(one["packed"])) for name, one in shown.items()}


def test_every_comparable_trial_is_a_mark_that_tells_it(
    findings: Findings, figures: dict[str, dict[str, Any]]
) -> None:
    dots, best = figures["optimisation"]["data"]
    known = scored(findings.trials)
    assert dots["x"] == [one.number for one in known]
    assert dots["y"] == [one.best_score for one in known]
    assert all(f"trial {n}," in text for n, text in zip(dots["x"], dots["text"], strict=True))
    np.testing.assert_allclose(best["y"], np.maximum.accumulate(dots["y"]))


def test_bars_and_their_reach_are_the_importances(
    findings: Findings, figures: dict[str, dict[str, Any]]
) -> None:
    (bars,) = figures["importances"]["data"]
    told = dict(zip(bars["y"], zip(bars["x"], bars["error_x"]["array"], strict=True), strict=True))
    for one in importances(findings.trials):
        value, above = told[one.option]
        assert value == one.value
        assert value + above == pytest.approx(one.high)
    assert bars["x"] == sorted(bars["x"])  # plotly draws the first one lowest


def test_lines_end_at_their_trials_scores(findings: Findings, figures: dict[str, dict[str, Any]]) -> None:
    (lines,) = figures["parallel"]["data"]
    scores = np.array([one.best_score for one in scored(findings.trials)])
    *options, last = lines["dimensions"]
    assert last["label"] == "brain score"
    share = (scores - scores.min()) / np.ptp(scores)
    np.testing.assert_allclose(last["values"], share, atol=1e-5)
    (history,) = [one for one in options if one["label"] == "history"]
    heard = [one.configuration.history for one in scored(findings.trials)]
    assert np.corrcoef(history["values"], heard)[0, 1] == pytest.approx(1)


def test_the_front_joins_those_that_none_betters(
    findings: Findings, figures: dict[str, dict[str, Any]]
) -> None:
    dots, joined = figures["front"]["data"]
    assert len(dots["x"]) == len(scored(findings.trials))
    assert joined["y"] == [one.best_score for one in pareto(scored(findings.trials))]


def test_a_target_has_its_colour_where_chance_does_not_explain_it_and_dark_grey_elsewhere(
    findings: Findings, figures: dict[str, dict[str, Any]]
) -> None:
    one, table = findings.best["sub-001"], findings.targets["sub-001"]
    scale = score_scale(one.frozen, one.ridge)
    maps, *_ = figures["brain"]["choices"]
    assert [option["name"] for option in maps["options"]] == [
        f"sub-001, {title}" for title in ("before", "after", "difference")
    ]
    for option, values, sure in (
        (maps["options"][0], one.frozen, one.predicted["frozen"]),
        (maps["options"][1], one.ridge, one.predicted["ridge"]),
    ):
        for number, side in enumerate("LR"):
            painted, said = (option["traces"][what][number] for what in ("vertexcolor", "text"))
            rows = np.flatnonzero(table["hemisphere"] == side)
            for row in rows:
                vertex = table["vertex"][row]
                assert said[vertex].startswith(f"r {values[row]:.3f}")
                assert (painted[vertex] == UNSURE) == (not sure[row]) == ("not significant" in said[vertex])
                if sure[row]:
                    share = np.clip(values[row] / scale.high, 0, 1)
                    expected = mpl.colormaps[scale.colours](share)[:3]
                    np.testing.assert_allclose(mpl.colors.to_rgb(painted[vertex]), expected, atol=0.03)
            assert sum(map(bool, said)) == len(rows)


def test_hemispheres_are_whole_and_do_not_touch(figures: dict[str, dict[str, Any]]) -> None:
    ends = []
    for trace in figures["brain"]["data"]:
        x = np.frombuffer(base64.b64decode(trace["x"]["bdata"]), trace["x"]["dtype"])
        corners = [np.frombuffer(base64.b64decode(trace[one]["bdata"]), "<i2") for one in "ijk"]
        assert len(x) == len(trace["vertexcolor"]) == 10_242
        assert np.array_equal(np.unique(corners), np.arange(len(x)))
        assert len(corners[0]) == 2 * len(x) - 4  # Euler, of a closed surface of triangles
        ends.append((x.min(), x.max()))
    assert ends[0][1] < 0 < ends[1][0]


def test_the_library_is_in_the_page_once_and_nothing_without_it() -> None:
    findings = made_up.findings(1, "T1w", 20, 12)  # without maps, which take longest
    page = render(findings, interactive=True)
    (packed,) = re.findall(r'<script type="text/plain" id="explore-library">([^<]*)</script>', page)
    assert unpacked(packed) == get_plotlyjs()
    assert len(page) < 5_000_000
    ids = Parsed(page).attributes("id")
    assert len(ids) == len(set(ids))
    plain = render(findings)
    assert "<script" not in plain
    assert "explore-" not in plain
    assert Parsed(page).text.count("Figure ") == Parsed(plain).text.count("Figure ")


def test_what_cannot_be_mapped_or_compared_is_left_out(findings: Findings) -> None:
    few = replace(findings, trials=findings.trials[:1])
    assert set(explored(few, [], mapped=False)) == {"optimisation", "front"}
    volumes = made_up.findings(1, "MNI152NLin2009cAsym", 300, 1)
    assert "brain" not in explored(volumes, [], mapped=True)


def test_the_same_findings_give_the_same_figures(findings: Findings) -> None:
    first, again = (explored(findings, [], mapped=True) for _ in range(2))
    assert first == again
