"""The report's page: true to its findings, and readable by anyone, anywhere."""

import base64
import dataclasses
import io
import json
import math
import re
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import made_up
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from parsed import Parsed
from scipy import stats

from wav2bold.config import Configuration, Search
from wav2bold.errors import DataError
from wav2bold.pages.brains import can_map
from wav2bold.pages.look import DARK, LIGHT
from wav2bold.report import report as step
from wav2bold.report.findings import Findings
from wav2bold.report.maps import maps
from wav2bold.report.page import render
from wav2bold.report.words import answer, configuration, mismatch, p_value
from wav2bold.trainables.origin import ORIGIN
from wav2bold.trainables.scores import Gain, brain_score
from wav2bold.tuning.subset_scores import SubsetScore
from wav2bold.tuning.trial_words import layers, status, unfrozen


@pytest.fixture(scope="module")
def findings() -> Findings:
    return made_up.findings()


@pytest.fixture(scope="module")
def html(findings: Findings) -> str:
    return render(findings)


@pytest.fixture(scope="module")
def page(html: str) -> Parsed:
    return Parsed(html)


def plain(number: str) -> float:
    return float(number.replace("\N{MINUS SIGN}", "-"))


def test_table_of_scores_holds_the_findings_means(page: Parsed, findings: Findings) -> None:
    rows = {row[0]: row[1:] for row in page.tables[0]}
    for subject, best in findings.best.items():
        paper = findings.paper[subject]
        arrays = [findings.ceiling(subject), best.frozen, paper.ridge, paper.head, best.ridge, best.head]
        expected = [np.mean(array) for array in arrays]
        np.testing.assert_allclose([plain(cell) for cell in rows[subject][:6]], expected, atol=5.01e-4)
        shares = [100 * np.mean(array) / np.mean(arrays[0]) for array in (best.frozen, best.ridge)]
        np.testing.assert_allclose(
            [float(cell.rstrip("%")) for cell in rows[subject][6:8]], shares, atol=0.501
        )
        white = [np.mean(best.white[name]) for name in ("frozen", "ridge")]
        np.testing.assert_allclose([plain(cell) for cell in rows[subject][8:10]], white, atol=5.01e-4)
        told = [float(cell.rstrip("%")) for cell in rows[subject][10:]]
        truth = [100 * np.mean(best.predicted[name]) for name in ("frozen", "ridge")]
        np.testing.assert_allclose(told, truth, atol=0.501)
    everyone = np.mean([[np.mean(one.frozen), np.mean(one.ridge)] for one in findings.best.values()], axis=0)
    np.testing.assert_allclose([plain(rows["Mean"][1]), plain(rows["Mean"][4])], everyone, atol=5.01e-4)


def test_table_of_gains_holds_both_configurations_and_their_tests(page: Parsed, findings: Findings) -> None:
    rows = {(row[0], row[1]): row[2:] for row in page.tables[1]}
    for role, found in (("best", findings.best), ("paper", findings.paper)):
        for subject, one in found.items():
            frozen, ridge, between, p_ridge, head, _, p_head, improved, volumes = rows[subject, role]
            ends = [plain(end) for end in between.split(", ")]
            interval = one.intervals["gain_ridge"]
            np.testing.assert_allclose(ends, [interval.low, interval.high], atol=5.01e-4)
            assert int(improved) == one.improved.sum()
            assert plain(frozen) == pytest.approx(np.mean(one.frozen), abs=5.01e-4)
            assert plain(ridge) == pytest.approx(one.gain_ridge.gain, abs=5.01e-4)
            assert plain(head) == pytest.approx(one.gain_head.gain, abs=5.01e-4)
            assert (p_ridge, p_head, volumes) == ("0.012", "< 0.001", "186")


def test_every_trial_has_its_row(page: Parsed, findings: Findings) -> None:
    rows = page.tables[2][1:]
    assert [int(row[0].split()[0]) for row in rows] == [trial.number for trial in findings.trials]
    assert [row[0] for row in rows if "best" in row[0]] == [f"{findings.winner.number} best"]
    assert rows[0][0] == "0 paper"
    for row, trial in zip(rows, findings.trials, strict=True):
        assert plain(row[-1]) == pytest.approx(trial.best_score, abs=5.01e-4)


@pytest.mark.parametrize(
    ("number", "said"), [(0, "finished"), (2, "stopped early (2 of 6)"), (3, "finished"), (8, "failed")]
)
def test_status_tells_stopped_from_finished(findings: Findings, number: int, said: str) -> None:
    assert status(findings.trials[number]) == said


def test_answer_says_lowered_when_the_score_fell(findings: Findings) -> None:
    worse = {
        name: dataclasses.replace(one, ridge=one.frozen - 0.02, gain_ridge=Gain(-0.02, 0.98, 18))
        for name, one in findings.best.items()
    }
    said = answer(dataclasses.replace(findings, best=worse))[0]
    assert "lowered" in said
    assert "raised" not in said
    assert "rose in 0 of 2 subjects, and in 0 of 2" in said
    assert "one-sided Wilcoxon p = 1.000" in said


def test_answer_names_the_scores_and_the_story(findings: Findings) -> None:
    said = answer(findings)[0]
    before, after = (
        np.mean([brain_score(getattr(one, name)) for one in findings.best.values()])
        for name in ("frozen", "ridge")
    )
    assert (
        f"story lighthouse, refining the encoder raised the 2 subjects' mean brain score from {before:.3f}"
        in said
    )
    assert f"to {after:.3f}" in said


def test_every_gain_that_is_told_has_its_interval_and_test(findings: Findings) -> None:
    head, paper = (
        next(one for one in answer(findings) if begins in one)
        for begins in ("With the head", "The paper's configuration gives")
    )
    for said, gains in (
        (head, [one.gain_head.gain for one in findings.best.values()]),
        (paper, [one.gain_ridge.gain for one in findings.paper.values()]),
    ):
        ends = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
        low, high = (f"{end:+.3f}".replace("-", "\N{MINUS SIGN}") for end in (ends.low, ends.high))
        assert (
            f"95% interval over subjects {low} to {high}, Student's t; one-sided Wilcoxon p = 0.250" in said
        )
    alone = {name: {"sub-001": getattr(findings, name)["sub-001"]} for name in ("best", "paper")}
    said = " ".join(answer(dataclasses.replace(findings, **alone)))
    own = alone["best"]["sub-001"].intervals["gain_head"]
    assert (
        f"(95% interval {own.low:+.3f} to {own.high:+.3f}; one-sided sign-flip test over blocks, p < 0.001)"
        in said
    )
    assert "over 18 blocks of time; 280 targets, 186 volumes)" in said


def test_where_the_frozen_encoder_was_kept_it_is_not_compared_with_itself(findings: Findings) -> None:
    same = {
        name: dataclasses.replace(one, ridge=one.frozen, gain_ridge=Gain(0.0, 1.0, 18))
        for name, one in findings.best.items()
    }
    nowhere = answer(dataclasses.replace(findings, best=same, paper=same))
    assert "in sub-001, sub-002 no epoch of refinement bettered the frozen encoder on the" in nowhere[0]
    assert "interval" not in nowhere[0]
    assert "gives +0.000 in 2 subjects (fresh ridge; the frozen encoder was kept" in " ".join(nowhere)
    alone = dataclasses.replace(findings.winner, configuration=Configuration(unfrozen={}))
    nothing = dataclasses.replace(findings, best=same, trials=(alone,))
    assert answer(nothing)[0].startswith("Nothing was refined: the best configuration fits the head alone.")
    some = {"sub-001": findings.best["sub-001"], "sub-002": same["sub-002"]}
    said = answer(dataclasses.replace(findings, best=some))
    assert "rose in 1 of 2 subjects" in said[0]
    assert said[1].startswith("In sub-002 no epoch of refinement bettered the frozen encoder")


@pytest.mark.parametrize(
    ("others", "told"),
    [((), ""), (("sub-002",), "The encoders of sub-002 were"), (("sub-001", "sub-002"), "All encoders were")],
)
def test_encoders_of_another_configuration_than_the_best_are_named(
    findings: Findings, tmp_path: Path, others: tuple[str, ...], told: str
) -> None:
    best = {}
    for name, one in findings.best.items():
        best[name] = dataclasses.replace(one, folder=tmp_path / name)
        best[name].folder.mkdir()
        digest = "another" if name in others else findings.winner.configuration.digest
        (best[name].folder / ORIGIN).write_text(json.dumps({"origin": {"configuration": digest}}))
    said = mismatch(dataclasses.replace(findings, best=best))
    assert said.startswith(f"{told} refined with another configuration") if told else said == ""


def test_absent_paper_is_said_and_no_number_takes_its_place(findings: Findings) -> None:
    page = Parsed(render(dataclasses.replace(findings, paper={})))
    assert all(row[3] == "not refined" for row in page.tables[0][2:])
    assert {row[1] for row in page.tables[1][2:]} == {"best"}
    assert "was not refined" in page.text


def test_unrepeated_stories_have_no_ceiling_and_nothing_reads_nan(findings: Findings) -> None:
    bare = {name: table.assign(ceiling=math.nan) for name, table in findings.targets.items()}
    html = render(dataclasses.replace(findings, targets=bare))
    page = Parsed(html)
    assert all(row[1] == "no repeats" == row[-5] for row in page.tables[0][2:])
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", html), re.IGNORECASE)


def test_every_picture_says_what_it_shows(page: Parsed) -> None:
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    charts = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert len(images) == 6
    assert all(attrs.get("alt") for attrs in images)
    assert len({attrs["alt"] for attrs in images}) == 6
    ids = page.attributes("id")
    assert len(charts) == 11
    assert all(attrs["role"] == "img" and attrs["aria-labelledby"] in ids for attrs in charts)


def test_page_asks_nothing_of_the_network(page: Parsed, html: str) -> None:
    page.is_self_contained(html)
    assert len(html) < 3_000_000


def test_ids_are_unique_and_references_lead_somewhere(page: Parsed, html: str) -> None:
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    inner = [str(attrs["href"]) for _, attrs in page.elements if str(attrs.get("href")).startswith("#")]
    assert {target[1:] for target in [*inner, *re.findall(r"url\((.*?)\)", html)]} <= set(ids)


def test_headings_go_down_one_step_at_a_time(page: Parsed) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[first : first + 2], 16) / 255 for first in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["day", "night"])
@pytest.mark.parametrize(
    ("role", "least"),
    [*dict.fromkeys(("ink", "muted", "link", "paper", "best"), 4.5).items(), ("quiet", 3.0)],
)
def test_colours_meet_aa_contrast(colours: dict[str, str], role: str, least: float) -> None:
    light, dark = sorted((luminance(colours["ground"]), luminance(colours[role])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


def test_charts_take_their_colours_from_the_page(html: str) -> None:
    charts = re.findall(r"(?s)<svg.*?</svg>", html)
    allowed = {"#ffffff", "#000000"}
    assert not set(re.findall(r"#[0-9a-f]{6}\b", "".join(charts))) - allowed
    assert all("var(--ink)" in chart for chart in charts)


def test_simulated_recordings_are_never_passed_off_as_real(findings: Findings, page: Parsed) -> None:
    study = findings.study.model_copy(update={"name": "simulated"})
    assert "These recordings are simulated" in Parsed(render(dataclasses.replace(findings, study=study))).text
    assert "simulated" not in page.text


def test_names_from_outside_are_not_markup(findings: Findings) -> None:
    card = dataclasses.replace(findings.card, space="<script>alert(1)</script>")
    assert "<script" not in render(dataclasses.replace(findings, card=card))


def test_page_does_not_say_where_the_encoder_lies(findings: Findings) -> None:
    study = findings.study.model_copy(update={"encoder": "/home/somebody/models/wav2vec2-base"})
    html = render(dataclasses.replace(findings, study=study))
    assert "somebody" not in html
    assert "wav2vec2-base" in html


def test_volumes_are_drawn_and_unknown_spaces_said(findings: Findings) -> None:
    volumes = made_up.findings(1, "MNI152NLin2009cAsym", 900)
    page = Parsed(render(volumes))
    assert sum(tag == "img" for tag, _ in page.elements) == 3
    assert "Glass brains" in page.text
    native = dataclasses.replace(volumes, card=dataclasses.replace(volumes.card, space="T1w"))
    page = Parsed(render(native))
    assert not any(tag == "img" for tag, _ in page.elements)
    assert "no brain at hand on which targets of the space T1w" in page.text
    assert not can_map(findings.targets["sub-001"], "fsnative")


@pytest.mark.parametrize("space", ["fsaverage5", "MNI152NLin2009cAsym"])
def test_maps_show_only_what_chance_does_not_explain_and_count_it(space: str) -> None:
    found = made_up.findings(1, space, 280, 1)
    one = found.best["sub-001"]
    nobody = np.zeros(280, bool)
    silent = dataclasses.replace(one, predicted={"frozen": nobody, "ridge": nobody}, improved=nobody)
    (person,) = maps(dataclasses.replace(found, best={"sub-001": silent})).people
    for shown in person["maps"]:
        assert shown["alt"].endswith("0 of 280 targets significant")
        picture = plt.imread(io.BytesIO(base64.b64decode(shown["png"])))[..., :3]
        assert np.ptp(picture, axis=2).max() < 0.02  # greys alone
    drawn = maps(found)
    counts = [one.predicted["frozen"].sum(), one.predicted["ridge"].sum(), one.improved.sum()]
    said = "{} of 280 targets predicted before, {} after, {} predicted better"
    assert said.format(*counts) in drawn.caption
    masked = brain_score(np.where(one.predicted["frozen"], one.frozen, np.nan))
    assert (
        f"{counts[0]} of 280 targets significant, their mean {masked:.3f}"
        in drawn.people[0]["maps"][0]["alt"]
    )


def test_means_of_regions_are_not_drawn_and_that_is_said(findings: Findings) -> None:
    count = len(findings.targets["sub-001"])
    table = pd.DataFrame({"target": range(count), "label": range(1, count + 1), "members": 9, "ceiling": 0.5})
    regions = {name: table.assign(name="region", x_mm=0.0) for name in findings.targets}
    page = Parsed(render(dataclasses.replace(findings, targets=regions)))
    assert not any(tag == "img" for tag, _ in page.elements)
    assert "Targets are means of regions" in page.text


@pytest.mark.parametrize(
    ("way", "said"), [("repeats", "highest r that a single"), ("others", "a lower bound")]
)
def test_methods_say_how_the_ceiling_was_told(findings: Findings, way: str, said: str) -> None:
    told = {name: table.assign(ceiling_from=way) for name, table in findings.targets.items()}
    text = " ".join(Parsed(render(dataclasses.replace(findings, targets=told))).text.split())
    assert [phrase in text for phrase in ("highest r that a single", "a lower bound")].count(True) == 1
    assert said in text


def test_methods_say_which_strategy_cleaned(findings: Findings) -> None:
    cleaning = dict(findings.card.cleaning) | {"confounds_strategy": "compcor", "drop_last": 2}
    card = dataclasses.replace(findings.card, cleaning=cleaning)
    text = Parsed(render(dataclasses.replace(findings, card=card))).text
    assert "the confounds of nilearn's strategy compcor" in text
    assert "the last 2 volumes of each scan were dropped" in text.lower()


def test_every_reference_is_cited_and_every_citation_listed(page: Parsed, html: str) -> None:
    cited = {int(number) for number in re.findall(r"\[(\d+)\]", page.text)}
    assert cited == set(range(1, html.count("<li>") + 1))


@pytest.mark.parametrize(
    ("p", "said"), [(0.0, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.001"), (0.5, "0.500")]
)
def test_p_values_are_never_zero(p: float, said: str) -> None:
    assert p_value(Gain(0.0, p, 3)) == said


class Remembered:
    """A tracker that keeps what it is told."""

    told: list[tuple[str, object]]

    def __init__(self, study: object) -> None:
        type(self).told = []

    def metrics(self, run_id: str, metrics: dict[str, float], step: int) -> None:
        self.told.append((run_id, metrics))

    def artifact(self, run_id: str, path: Path) -> None:
        self.told.append((run_id, path.read_text(encoding="utf-8")))


def test_report_writes_the_page_and_remembers_it_under_the_sweep(
    findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "find", lambda *_, **__: findings)
    monkeypatch.setattr(step, "Tracker", Remembered)
    monkeypatch.setattr("wav2bold.report.page.render", lambda given, **_: f"page of {given.study.name}")
    out = tmp_path / "deep" / "report.html"
    assert step.report(findings.study, out) is findings
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    (run, metrics), (_, remembered) = Remembered.told
    assert run == findings.sweep
    assert remembered == out.read_text(encoding="utf-8") == "page of listeners"
    assert metrics["test.best.sub-001.ridge"] == pytest.approx(np.mean(findings.best["sub-001"].ridge))
    assert metrics["test.best.sub-001.gain_ridge_low"] == findings.best["sub-001"].intervals["gain_ridge"].low
    assert metrics["test.best.sub-001.improved"] == findings.best["sub-001"].improved.sum()
    states = [one.score.value for one in findings.layers if (one.encoder, one.layer) == ("refined", 1)]
    assert metrics["test.layers.refined.1"] == pytest.approx(np.mean(states))
    assert metrics["test.paper.sub-002.gain_head"] == findings.paper["sub-002"].gain_head.gain


def test_report_refuses_a_folder_before_any_work(findings: Findings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; give a file"):
        step.report(findings.study, tmp_path)


@pytest.mark.parametrize(
    ("options", "what", "where"),
    [
        ({}, "attention and feed-forward", "all layers"),
        ({"unfrozen": {}}, "head alone", "\N{EN DASH}"),
        ({"unfrozen": {"conv": None}}, "convolutions", "\N{EN DASH}"),
        ({"lora": {}}, "adapters of rank 8 on attention and feed-forward", "all layers"),
        (
            {"lora": {"rank": 2, "targets": ("attention",), "layers": (3, 5)}, "unfrozen": {"bias": None}},
            "biases and adapters of rank 2 on attention",
            "biases: all layers, adapters: layers 3 to 5",
        ),
    ],
)
def test_what_a_configuration_trains_is_told_with_its_layers(
    options: dict[str, object], what: str, where: str
) -> None:
    chosen = Configuration(**options)
    assert (unfrozen(chosen), layers(chosen)) == (what, where)
    said = configuration(chosen, 1.5)
    assert f"refines {what}, {where}, for 6 epochs" in said or not chosen.refines
    assert ("only the head is fitted" in said) != chosen.refines


def test_the_control_is_told_from_refinement(findings: Findings, html: str) -> None:
    control = Configuration(objective="pretrain")
    said = configuration(control, 1.5)
    assert "continues, on the training stories' sound alone, the pre-training of attention" in said
    assert "refines" not in said
    page = unescape(
        " ".join(
            render(
                dataclasses.replace(
                    findings, study=findings.study.model_copy(update={"configuration": control})
                )
            ).split()
        )
    )
    assert "BOLD has no part in it, the last epoch is kept, and the head is fitted afresh. Wherever" in page
    assert "although it differs" in page
    assert "minimise" not in page
    plain = " ".join(html.split())
    assert "The epoch with the highest score on the validation stories is kept. Wherever the head is" in plain
    assert "has no part in it" not in plain


def test_a_search_over_subjects_is_told_from_a_joint_one(findings: Findings, html: str) -> None:
    search = Search(sampler="nsgaii", second_goal="drift", objective={"reduce": "min"})
    study = findings.study.model_copy(update={"search": search})
    said = "trial 7 against the paper's configuration: targets better at FDR q 0.05: 3 of 560 targets"
    other = dataclasses.replace(findings, study=study, certainty=said)
    page = unescape(" ".join(render(other).split()))
    assert "its score is the lowest of theirs on the validation stories" in page
    assert "the subjects refined one by one and scored by the lowest" in page
    assert "towards a high score and little change of the trained parameters" in page
    assert f"On them: Trial{said[5:]}." in page
    plain = " ".join(html.split())
    assert "refined on all chosen subjects together" in plain
    assert "On them" not in plain


def test_adapters_are_told_in_the_methods(findings: Findings, html: str) -> None:
    adapted = findings.study.model_copy(update={"configuration": Configuration(lora={})})
    other = render(dataclasses.replace(findings, study=adapted))
    assert "peft 0." in other
    assert "peft" not in html
    differs = "called the paper\N{RIGHT SINGLE QUOTATION MARK}s above although it differs"
    assert differs.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") in " ".join(other.split())
    assert "although it differs" not in html


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("tr", "its last hidden states, averaged to TRs, entered a linear head"),
        ("mean", "averaged over the history, entered"),
        ("last", "averaged over the history's last TR, entered"),
        ("lanczos", "brought to TRs by a Lanczos kernel of three lobes"),
    ],
)
def test_methods_say_what_the_head_read(findings: Findings, way: str, said: str) -> None:
    other = findings.study.model_copy(update={"configuration": Configuration(pooling=way)})
    page = unescape(" ".join(render(dataclasses.replace(findings, study=other)).split()))
    assert said in page
    assert ("although it differs" in page) == (way != "tr")


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ("weighted", "the sum of all its hidden states, weighed equally at first and as trained in stage 2,"),
        (4, "its hidden state 4, averaged to TRs"),
        ([4, 8], "its hidden states 4 and 8, averaged to TRs"),
    ],
)
def test_methods_say_which_hidden_states_the_head_read(findings: Findings, states: object, said: str) -> None:
    other = findings.study.model_copy(update={"configuration": Configuration(layers=states)})
    page = unescape(" ".join(render(dataclasses.replace(findings, study=other)).split()))
    assert said in page
    assert "although it differs" in page


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"head": "shared"}, "entered a linear head, the same for all subjects refined together"),
        (
            {"head": "conv_linear", "head_rank": 12},
            "entered a convolution over 3 TRs and then a linear head of rank 12 (reduced-rank regression)",
        ),
    ],
    ids=["shared", "convolved"],
)
def test_methods_tell_of_another_head(
    findings: Findings, html: str, choice: dict[str, Any], said: str
) -> None:
    other = findings.study.model_copy(update={"configuration": Configuration(**choice)})
    page = " ".join(render(dataclasses.replace(findings, study=other)).split())
    assert said in page
    assert "although it differs" in page
    assert "entered a linear head, with" in " ".join(html.split())


def test_subsets_have_a_section_only_where_some_were_refined(findings: Findings, html: str) -> None:
    assert "refined by itself" not in html
    subsets = tuple(
        SubsetScore(name, {kind: span}, ("sub-001", "sub-002"), 0.3, after, 1234, 0.0567, 1, 3)
        for name, kind, span, after in (
            ("attention-2", "attention", (2, 2), 0.3125),
            ("conv", "conv", None, 0.3),
        )
    )
    drawn = render(dataclasses.replace(findings, subsets=subsets))
    rows = {row[0]: row[1:] for row in Parsed(drawn).tables[3]}
    assert rows["attention-2"] == ["attention 2", "1,234", "0.300", "0.312", "+0.013", "5.67", "1 of 2"]
    assert rows["conv"][3:5] == ["0.300", "+0.000"]
    assert "full colour: +0.013" in drawn
    assert 'id="subsets-gain-title"' in drawn
    alone = dataclasses.replace(subsets[0], unfrozen={"attention": (2, 2), "bias": None})
    without = render(dataclasses.replace(findings, subsets=(alone,)))
    assert "subsets-gain" not in without
    assert Parsed(without).tables[3][1][1] == "attention 2 + bias"


def test_the_control_stands_beside_both_configurations_and_is_compared(findings: Findings, html: str) -> None:
    control = {
        name: dataclasses.replace(one, ridge=one.frozen + 0.01, gain_ridge=Gain(0.01, 0.2, 18))
        for name, one in findings.best.items()
    }
    page = Parsed(render(dataclasses.replace(findings, pretrained=control)))
    header, _, *rows = page.tables[0]
    assert header[-1] == "Stimuli alone"
    truth = {name: np.mean(one.ridge) for name, one in control.items()}
    truth["Mean"] = np.mean(list(truth.values()))
    for row in rows:
        assert plain(row[-1]) == pytest.approx(truth[row[0]], abs=5.01e-4)
    roles = [row[1] for row in page.tables[1][2:] if row[0] == "sub-001"]
    assert roles == ["paper", "best", "stimuli"]
    more = np.mean([np.mean(one.ridge) - truth[name] for name, one in findings.best.items()])
    assert "without BOLD, gives +0.010 in 2 subjects" in page.text
    assert f"score {more:+.3f} beside it" in page.text
    assert "Stimuli alone" not in html
    one = Parsed(render(dataclasses.replace(findings, pretrained={"sub-002": control["sub-002"]})))
    assert {row[0]: row[-1] for row in one.tables[0][2:]}["sub-001"] == "not made"
