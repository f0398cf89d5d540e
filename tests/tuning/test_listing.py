"""What a study remembers can be asked for: by rank, by a filter, by name; as a table and as JSON."""

import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import made_up
import pytest
from rich.console import Console
from typer.testing import CliRunner

from wav2bold import steps
from wav2bold.cli import app
from wav2bold.config import Configuration, Study
from wav2bold.errors import TrackingError
from wav2bold.tuning.best import by_score, pareto, winner_of
from wav2bold.tuning.listing import as_data, comparison_table, differences, runs_table, trials_table
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.tracking import Tracker

GIVEN = [
    (Configuration(), 0.30, 900),
    (Configuration(history=3, unfrozen={"attention": (1, 2)}), 0.35, 400),
    (Configuration(history=3, unfrozen={}), 0.20, 0),
    (Configuration(history=4, encoder_lr=1e-5), 0.25, 700),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A sweep of four finished trials, a failed and a killed one, after one of a single trial."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("listed")
        found = made_up.findings()
        study = found.study.model_copy(update={"results": folder})
        tracker = Tracker(study)
        older = tracker.begin("sweep", "older", study, found.card)
        log(tracker, older, 0, Configuration(history=9), 0.9, 5)
        tracker.end(older)
        sweep = tracker.begin("sweep", "newer", study, found.card)
        for number, (configuration, score, trained) in enumerate(GIVEN):
            log(tracker, sweep, number, configuration, score, trained)
        log(tracker, sweep, 4, Configuration(), 0.99, 900, "FAILED")
        log(tracker, sweep, 5, Configuration(), 0.99, 900, "KILLED")
        study.save(folder / "study.yaml")
        return study


def log(
    tracker: Tracker, sweep: str, number: int, configuration: Configuration, score: float, trained: int,
    status: str = "FINISHED",
) -> None:  # fmt: skip
    more = {"number": number, "trained_parameters": trained}
    run = tracker.begin_trial("trial", f"trial {number}", sweep, configuration, more)
    tracker.metrics(run, {"score": score, "best_score": score, "seconds": 2.0}, 0)
    tracker.end(run, status)


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def shown(table: Any) -> str:
    written = StringIO()
    Console(file=written, width=120).print(table)
    return written.getvalue()


def command(study: Study, name: str, *words: str) -> Any:
    done = CliRunner().invoke(app, [name, str(study.results / "study.yaml"), *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_trials_come_by_rank_and_only_finished_ones(study: Study) -> None:
    assert [trial.number for trial in steps.ranked(study)] == [1, 0, 3, 2]
    assert steps.best(study).number == 1


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("params.history_tr = '3'", [1, 2]),
        ("params.unfrozen = 'nothing'", [2]),
        ("metrics.best_score > 0.22 AND metrics.best_score < 0.32", [0, 3]),
    ],
)
def test_a_filter_of_mlflow_chooses_among_them(study: Study, where: str, numbers: list[int]) -> None:
    assert [trial.number for trial in steps.ranked(study, where)] == numbers
    assert steps.best(study, where=where).number == numbers[0]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("history = 6", "--where: MLflow can't read history = 6 ("),
        ("params.history = ", "--where: MLflow can't read params.history =  ("),
        (
            "params.history = '33'",
            "no finished trial of the newest sweep of listeners has params.history = '33'",
        ),
    ],
)
def test_a_filter_that_finds_nothing_is_one_line(study: Study, where: str, said: str) -> None:
    with pytest.raises(TrackingError) as raised:
        steps.ranked(study, where)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_nothing_betters_what_is_on_the_front_in_both(study: Study) -> None:
    trials = steps.ranked(study)
    front = steps.ranked(study, pareto=True)
    assert [trial.number for trial in front] == [1, 2]
    for one in trials:
        bettered = any(
            other.best_score >= one.best_score and other.trained_parameters <= one.trained_parameters
            for other in trials
            if other is not one
        )
        assert bettered == (one not in front)


def test_of_equal_scores_the_one_that_trains_less_is_on_the_front(study: Study) -> None:
    trials = [replace(trial, best_score=0.3) for trial in steps.ranked(study)]
    assert [trial.trained_parameters for trial in pareto(trials)] == [0]
    with pytest.raises(TrackingError, match="counted no trained parameters"):
        pareto([replace(trial, trained_parameters=None) for trial in trials])


def test_drift_has_a_front_of_its_own(study: Study) -> None:
    trials = [
        replace(trial, drift=drift)
        for trial, drift in zip(steps.ranked(study), (0.1, 0.3, 0.02, 0.02), strict=True)
    ]
    assert [trial.number for trial in trials] == [1, 0, 3, 2]
    assert [trial.number for trial in pareto(trials, "drift")] == [1, 3]
    text = shown(trials_table(trials, "drift"))
    assert "drift" in text
    assert "0.02" in text
    assert "parameters" not in text
    with pytest.raises(TrackingError, match="counted no drift"):
        pareto(steps.ranked(study), "drift")


def test_scores_on_fewer_subjects_come_last_and_never_win(study: Study) -> None:
    first, *others = steps.ranked(study)
    part = {"subjects": ("a", "b"), "reduce": "mean", "subject_scores": {"a": 0.35}, "stopped": True}
    trials = [replace(first, **part), *others]
    assert [trial.number for trial in by_score(trials)] == [0, 3, 2, 1]
    assert winner_of(trials).number == 0
    assert winner_of(trials[:1]) is None
    assert first.number not in [trial.number for trial in pareto(trials)]
    text = shown(trials_table(trials))
    assert "stopped after 1 of 2 subjects" in " ".join(text.split())
    assert "score.a" in shown(comparison_table(*trials[:2]))
    assert as_data(trials[0])["subject_scores"] == {"a": 0.35}


def test_sweeps_are_listed_with_what_became_of_their_trials(study: Study) -> None:
    newer, older = steps.runs(study)
    assert (newer.name, older.name) == ("newer", "older")
    assert (newer.status, older.status) == ("RUNNING", "FINISHED")
    assert newer.parts == {"FINISHED": 4, "FAILED": 1, "KILLED": 1}
    assert (newer.best_score, older.best_score) == (0.35, 0.9)
    assert newer.seconds is None
    assert "1 failed, 4 finished, 1 killed" in shown(runs_table([newer, older]))


def test_two_trials_are_compared_in_what_they_differ_in(study: Study) -> None:
    one, other = steps.compare(study, "1", "2")
    assert differences(one, other) == {
        "unfrozen": ("attention", "nothing"),
        "unfrozen.attention": ("1-2", None),
    }
    text = shown(comparison_table(one, other))
    assert "0.35" in text
    assert "history" not in text
    by_id = steps.compare(study, one.run_id[:12], "1")
    assert [trial.run_id for trial in by_id] == [one.run_id, one.run_id]


@pytest.mark.parametrize("name", ["999999", "nothing", ""])
def test_a_trial_that_is_not_there_is_told(study: Study, name: str) -> None:
    with pytest.raises(TrackingError, match=rf"\w+ trials of listeners are called {name}; give a number"):
        steps.compare(study, "0", name)


def test_a_table_tells_why_a_trial_failed() -> None:
    trial = Trial("f" * 32, 3, "FAILED", Configuration(), (), float("nan"), 1.0, "no room", 5)
    text = shown(trials_table([trial]))
    assert "failed: no room" in text
    assert "nan" not in text
    assert as_data(trial)["best_score"] is None


def test_machines_get_json(study: Study) -> None:
    top = json.loads(command(study, "best", "--top", "2", "--json"))
    assert [(one["number"], one["best_score"]) for one in top] == [(1, 0.35), (0, 0.3)]
    assert Configuration.model_validate(top[0]["configuration"]) == GIVEN[1][0]
    assert [one["number"] for one in json.loads(command(study, "best", "--json"))] == [1]
    assert [one["name"] for one in json.loads(command(study, "runs", "--json"))] == ["newer", "older"]
    compared = json.loads(command(study, "compare", "0", "1", "--json"))
    assert compared["differences"]["history"] == [6, 3]
    assert [one["number"] for one in compared["trials"]] == [0, 1]


def test_people_get_tables(study: Study) -> None:
    rows = re.findall(r"(?m)^\s*(\d+)\s+[0-9a-f]{8}\s", command(study, "best", "--pareto"))
    assert rows == ["1", "2"]
    assert command(study, "best").startswith("trial 1, brain score 0.3500")
    assert "newer" in command(study, "runs")
    assert "unfrozen" in command(study, "compare", "0", "1")


def test_the_chosen_of_a_filter_is_written(study: Study, tmp_path: Path) -> None:
    command(study, "best", "--where", "params.history_tr = '4'", "--out", str(tmp_path / "best.yaml"))
    assert Configuration.load(tmp_path / "best.yaml") == GIVEN[3][0]
