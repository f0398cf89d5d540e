"""A sweep that still runs or partly failed says so first, and shows what there is."""

import math
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
from crowds import crowd
from parsed import Parsed

from wav2bold.config import Study
from wav2bold.errors import TrackingError
from wav2bold.report.findings import Findings
from wav2bold.report.page import render
from wav2bold.report.report import report
from wav2bold.report.standing import ENDED, Standing, failed, nothing_finished, notices, unrefined
from wav2bold.tuning.driving import is_driven, only_driver
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.tracking import Tracker

RUNNING = Standing("RUNNING", driven=True)


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    """Nine finished, two running, three failed for two reasons, of twelve and two more."""
    found = list(made_up.findings(trials=14).trials)
    for number, reason in ((4, "out of memory."), (8, "out of memory."), (9, "conv: no such layer")):
        found[number] = replace(found[number], status="FAILED", reason=reason, best_score=math.nan)
    return [replace(one, status="RUNNING") if one.number > 11 else one for one in found]


def notes(page: Parsed, html: str) -> str:
    return html[: html.index('class="answer"')]


def test_a_sweep_that_ended_well_needs_no_notice(trials: list[Trial]) -> None:
    assert notices(ENDED, [one for one in trials if one.status == "FINISHED"], 40) == []


def test_a_running_sweep_tells_how_far_it_is(trials: list[Trial]) -> None:
    told, _ = notices(RUNNING, trials, 40)
    assert told.startswith("The sweep is still running: 9 of 40 trials have finished, 3 failed, 2 run now")
    assert "(trials 12 and 13)" in told


def test_a_sweep_that_nothing_drives_is_not_called_running(trials: list[Trial]) -> None:
    for standing in (Standing("RUNNING", driven=False), Standing("KILLED", driven=None)):
        told = notices(standing, trials, 40)[0]
        assert "nothing drives it any more" in told
        assert "2 were cut off (trials 12 and 13)" in told
        assert "sweep STUDY --resume" in told
    assert "as far as MLflow knows" in notices(Standing("RUNNING"), trials, 40)[0]


def test_failures_are_told_by_reason_the_most_frequent_first(trials: list[Trial]) -> None:
    (told,) = notices(ENDED, trials, 14)
    assert told == "3 trials of 14 failed. Trials 4 and 8: out of memory; trial 9: conv: no such layer."
    silent = [replace(one, reason="") if one.number == 9 else one for one in trials]
    assert "trial 9: no reason is remembered" in notices(ENDED, silent, 14)[0]


def test_a_long_reason_is_told_by_its_first_sentence(trials: list[Trial]) -> None:
    why = (
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
        + 40 * " detail"
    )
    dead = [replace(one, reason=why) if one.number == 9 else one for one in trials]
    (told,) = notices(ENDED, dead, 14)
    assert told.endswith("trial 9: The actor is dead because its worker process has died.")
    assert (9, why) in failed(dead)


def test_many_failures_stay_one_readable_notice(trials: list[Trial]) -> None:
    many = [replace(trials[4], number=number, reason=f"reason {number % 7}") for number in range(700)]
    (told,) = notices(ENDED, many, 700)
    assert told.startswith("700 trials of 700 failed. Trials 0, 7, 14")
    assert "and 92 more: reason 0; " in told
    assert told.endswith("and 4 other reasons, in the table of failed trials.")


def test_subjects_without_an_encoder_are_named() -> None:
    told = unrefined(["sub-001", "sub-002", "sub-003"], ["sub-002"])
    assert told.startswith("2 of 3 subjects of the sweep are not refined")
    assert "sub-001, sub-003" in told
    assert unrefined(["sub-001"], ["sub-001"]) == "" == unrefined(["sub-001"], [])


def test_the_page_of_a_running_sweep_says_so_above_all_else(trials: list[Trial]) -> None:
    found = replace(made_up.findings(), trials=tuple(trials), standing=RUNNING)
    html = render(found)
    assert "still running" in notes(Parsed(html), html)
    assert "conv: no such layer" in html[html.index("Trials that failed") :]
    rows = {row[0].split()[0]: row[1] for row in Parsed(html).tables[2][1:]}
    assert (rows["12"], rows["4"]) == ("running", "failed")


@pytest.fixture(scope="module")
def untested(trials: list[Trial]) -> Findings:
    found = made_up.findings()
    return replace(found, trials=tuple(trials), best={}, paper={}, targets={}, standing=RUNNING)


def test_without_a_refined_encoder_the_sweep_is_shown_and_how_to_go_on(untested: Findings) -> None:
    html = render(untested)
    page = Parsed(html)
    assert "No encoder is refined with the best configuration yet" in page.text
    assert "wav2bold refine STUDY --config best.yaml" in page.text
    assert "not tested yet" in page.text
    for absent in (
        "Scores on the test stories",
        "sign-flip",
        "Targets predicted",
        "lighthouse, which nothing but",
    ):
        assert absent not in page.text
    assert len(page.tables[0]) == 1 + len(untested.trials)
    page.is_self_contained(html)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study with shards, remembered in a file."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    crowd(tmp_path / "shards", subjects=2, stories=4, volumes=8, targets=4, recorded=False)
    split = {"validation": ("story3",), "test": ("story4",)}
    given = {"name": "crowd", "encoder": "none", "split": split, "search": {"trials": 40}}
    return Study(shards=tmp_path / "shards", results=tmp_path, **given)


def begun(study: Study, *ends: str | None) -> Tracker:
    """A sweep with a trial for each status that it ended with; None: it still runs."""
    tracker = Tracker(study)
    sweep = tracker.begin("sweep", "sweep", study, made_up.findings().card)
    for number, end in enumerate(ends):
        about = {"number": number, "subjects": "sub-1 sub-2"}
        run = tracker.begin_trial("trial", f"trial {number}", sweep, study.configuration, about)
        if end == "FINISHED":
            tracker.metrics(run, {"score": 0.2 + number / 100}, 0)
        if end == "FAILED":
            tracker.tags(run, {"wav2bold.reason": "out of memory"})
        if end:
            tracker.end(run, end)
    return tracker


def test_report_on_a_running_sweep_writes_and_remembers_what_there_is(study: Study) -> None:
    tracker = begun(study, "FINISHED", "FAILED", None)
    out = study.results / "report.html"
    with only_driver(study):
        found = report(study, out)
    assert (found.best, found.winner.number) == ({}, 0)
    text = Parsed(out.read_text()).text
    assert "The sweep is still running: 1 of 40 trials have finished, 1 failed, 1 run now (trial 2)" in text
    assert "Trial 1: out of memory" in text
    sweep = tracker.newest_sweep()
    assert (study.results / "mlartifacts" / sweep / "artifacts" / "report.html").is_file()
    assert tracker.status_of(sweep) == "RUNNING"


@pytest.mark.parametrize(
    ("ends", "said"),
    [((), "(none has begun)"), (("FAILED", "FAILED", None), "(2 failed and 1 running: out of memory)")],
)
def test_report_without_a_finished_trial_is_one_line(
    study: Study, ends: tuple[str | None, ...], said: str
) -> None:
    begun(study, *ends)
    out = study.results / "report.html"
    with pytest.raises(TrackingError) as raised:
        report(study, out)
    assert f"no trial of the newest sweep of crowd has finished {said}" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_who_drives_a_sweep_is_seen_by_its_lock(study: Study) -> None:
    assert is_driven(study) is None
    with only_driver(study):
        assert is_driven(study) is True
    assert is_driven(study) is False


def test_a_sweep_that_has_not_begun_is_told() -> None:
    assert nothing_finished([]) == "none has begun"
