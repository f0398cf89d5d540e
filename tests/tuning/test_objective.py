"""A sweep over subjects: each is refined by itself, and a poor configuration ends before the last of them."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
from drivers import small_study, stand_ins

from wav2bold import steps
from wav2bold.config import Configuration, Objective, Search, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.windows import windows
from wav2bold.errors import StudyError
from wav2bold.trainables.refine import Material
from wav2bold.trainables.scores import Report, brain_score, pearson
from wav2bold.tuning import sweep as step
from wav2bold.tuning.best import by_score, pareto, winner_of
from wav2bold.tuning.kept import kept_of
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.storage import storage_url
from wav2bold.tuning.sweep import Swept, sweep
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.trial import WarmTrial
from wav2bold.tuning.trial_words import status
from wav2bold.tuning.workshop import longest_history

PEOPLE = ("sub-001", "sub-002", "sub-003")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objective")
    small_study(folder, people=PEOPLE)
    return folder


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, stand_in in stand_ins().items():
        monkeypatch.setattr(step, name, stand_in)


def trials_of(study: Study) -> list[Trial]:
    tracker = Tracker(study)
    return tracker.trials(tracker.newest_sweep())


def scores_by_table(
    material: Material, configuration: Configuration, *anything: Any
) -> Generator[Report, None, None]:
    """In place of a refinement: the first subject is easy, and a history of 3 is best for all."""
    subject = str(material.train.subject[0])
    score = {"sub-001": 0.6, "sub-002": 0.2, "sub-003": 0.1}[subject] - 0.05 * (3 - configuration.history)
    for epoch in (0, 1):
        yield Report(
            epoch, 1.0, score - 0.1 + 0.1 * epoch, np.array([score]), score, 1.0, epoch == 1, "", 0.5
        )


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, float]:
    """The score of each subject in a sweep of that subject's own."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, stand_in in stand_ins().items():
            patch.setattr(step, name, stand_in)
        for subject in PEOPLE:
            own = small_study(folder, f"alone-{subject}", trials=1)
            found[subject] = sweep(own.model_copy(update={"subjects": (subject,)})).best.best_score
    assert len(set(found.values())) == len(PEOPLE)
    return found


@pytest.mark.parametrize("reduce", ["mean", "median", "min"])
def test_a_trials_score_is_made_of_what_each_subject_has_alone(
    folder: Path, alone: dict[str, float], reduce: Any
) -> None:
    study = small_study(folder, f"over-{reduce}", trials=1, objective={"reduce": reduce})
    swept = sweep(study)
    (trial,) = trials_of(study)
    assert trial.subject_scores == alone
    wanted = {"mean": np.mean, "median": np.median, "min": np.min}[reduce](list(alone.values()))
    assert trial.best_score == swept.best.best_score == pytest.approx(wanted)
    client = mlflow.MlflowClient(swept.uri)
    history = client.get_metric_history(trial.run_id, "subject_score")
    assert [(one.step, one.value) for one in history] == list(enumerate(alone.values()))
    experiment = client.get_experiment_by_name(study.name).experiment_id
    found = client.search_runs([experiment], f"metrics.`score.sub-002` > {alone['sub-002'] - 1e-9}")
    assert [run.info.run_id for run in found] == [trial.run_id]


def told(study: Study) -> list[tuple[int, str, dict[str, float]]]:
    return [(one.configuration.history, status(one), dict(one.subject_scores)) for one in trials_of(study)]


@pytest.mark.parametrize("stopping", ["asha", "median"])
def test_a_poor_configuration_is_stopped_after_its_first_subject_and_can_not_win(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stopping: str
) -> None:
    monkeypatch.setattr("wav2bold.tuning.workshop.refine", scores_by_table)
    options: dict[str, Any] = {"objective": {"subjects": "all"}, "stopping": stopping, "sampler": "random"}
    study = small_study(folder, f"stopped-{stopping}", trials=10, **options)
    swept = sweep(study)
    trials = trials_of(study)
    stopped = [one for one in trials if one.stopped]
    assert "stopped after 1 of 3 subjects" in map(status, stopped)
    assert all(tuple(one.subject_scores) == PEOPLE[: len(one.scores)] != PEOPLE for one in stopped)
    whole = [one for one in trials if not one.stopped]
    assert all(len(one.subject_scores) == 3 for one in whole)
    # their scores are higher than that of any who went on to the difficult subjects
    assert min(one.best_score for one in stopped) > max(one.best_score for one in whole)
    assert steps.runs(study)[0].best_score == swept.best.best_score
    assert swept.best.number == winner_of(trials).number in {one.number for one in whole}
    assert [one.is_whole for one in by_score(trials)] == [True] * len(whole) + [False] * len(stopped)
    memory = optuna.load_study(study_name=f"{study.name}/{swept.run_id}", storage=storage_url(study))
    states = [one.state.name for one in memory.trials]
    assert states == ["PRUNED" if one.stopped else "COMPLETE" for one in trials]
    assert memory.best_value == swept.best.best_score

    halves = small_study(folder, f"halves-{stopping}", trials=5, **options)
    sweep(halves)
    more = small_study(folder, f"halves-{stopping}", trials=10, **options)
    sweep(more, resume=True)  # by a driver that knows only what was remembered
    assert told(more) == told(study)
    memory = optuna.load_study(
        study_name=f"{more.name}/{Tracker(more).newest_sweep()}", storage=storage_url(more)
    )
    assert [one.state.name for one in memory.trials] == states

    warm = small_study(folder, f"warm-{stopping}", trials=1, **options)
    assert sweep(warm, warm_start=study.name).warm == 10
    memory = optuna.load_study(
        study_name=f"{warm.name}/{Tracker(warm).newest_sweep()}", storage=storage_url(warm)
    )
    assert [one.state.name for one in memory.trials[:10]] == states


def test_drift_is_told_to_the_sampler_also_of_trials_that_ended_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drifting(material: Material, configuration: Configuration, *anything: Any) -> Any:
        for report in scores_by_table(material, configuration):
            yield replace(report, drift=configuration.history / 8)

    monkeypatch.setattr("wav2bold.tuning.workshop.refine", drifting)
    options: dict[str, Any] = {"objective": {}, "sampler": "nsgaii", "second_goal": "drift"}
    for trials, resume in ((3, False), (6, True)):
        study = small_study(folder, "drifting", trials=trials, **options)
        swept = sweep(study, resume=resume)
    memory = optuna.load_study(study_name=f"{study.name}/{swept.run_id}", storage=storage_url(study))
    wanted = [[one.best_score, one.configuration.history / 8] for one in trials_of(study)]
    assert [one.values for one in memory.trials] == wanted
    front = steps.ranked(study, pareto=True)
    assert front == pareto(trials_of(study), "drift")
    assert len({one.configuration.history for one in front}) == len(front) > 1  # worse and nearer, each


class Here(WarmTrial):
    """A trial in this process."""

    study: Study

    def setup(self, config: dict[str, Any]) -> None:
        super().setup(config, self.study.model_dump(mode="json"))


def test_what_is_frozen_is_computed_for_the_first_subject_alone(folder: Path, tmp_path: Path) -> None:
    Here.study = small_study(folder).model_copy(update={"results": tmp_path})
    configuration = Here.study.configuration.model_dump(mode="json")
    trial = Here({"task": task(PEOPLE, configuration)})
    assert not trial.step()["done"]
    stored = {path.name: path.stat().st_ino for path in tmp_path.rglob("*.safetensors")}
    assert stored
    assert [trial.step()["done"], trial.step()["done"]] == [False, True]
    assert {path.name: path.stat().st_ino for path in tmp_path.rglob("*.safetensors")} == stored


def task(subjects: Sequence[str], configuration: dict[str, Any]) -> dict[str, Any]:
    return {"number": 0, "configuration": configuration, "subjects": list(subjects), "reduce": "mean"}


def test_a_warm_trial_reads_bold_of_each_subject_once(folder: Path, tmp_path: Path) -> None:
    Here.study = small_study(folder).model_copy(update={"results": tmp_path})
    configuration = Here.study.configuration.model_dump(mode="json")
    trial = Here({"task": task(PEOPLE, configuration)})
    first = [trial.step()["subject_score"] for _ in PEOPLE]
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("wav2bold.tuning.workshop.windows")
        trial.reset_config({"task": task(PEOPLE, configuration)})
        assert [trial.step()["subject_score"] for _ in PEOPLE] == first


def test_a_subject_that_can_not_be_read_fails_the_trial_by_name(tmp_path: Path) -> None:
    Here.study = small_study(tmp_path, people=PEOPLE[:2])
    path = next((Here.study.shards / "bold" / "subject=sub-002" / "story=ferry").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    trial = Here({"task": task(PEOPLE[:2], Here.study.configuration.model_dump(mode="json"))})
    assert not trial.step()["failed"]
    assert "subject=sub-002" in trial.step()["failed"]


def kept_score(study: Study, swept: Swept, number: int, subject: str) -> float:
    """Brain score of a kept prediction, from the recordings."""
    heard = windows(open_shards(study.shards), [subject], study.split.validation, longest_history(study))
    predicted = kept_of(study, swept.run_id).prediction(number, subject)
    return brain_score(pearson(heard.y, predicted))


def test_predictions_of_the_first_and_the_best_are_kept_and_no_others(folder: Path) -> None:
    apart = small_study(folder, "kept-apart", trials=4, objective={"subjects": PEOPLE[:2]}, stopping="none")
    joint = small_study(folder, "kept-joint", trials=4, stopping="none", sampler="random")
    for study in (apart, joint):
        swept = sweep(study)
        trials = trials_of(study)
        kept = kept_of(study, swept.run_id).folder
        there = {int(path.name) for path in kept.iterdir() if path.is_dir()}
        assert there == {0, swept.best.number}
        people = PEOPLE[:2] if study is apart else PEOPLE
        for number in there:
            scores = {subject: kept_score(study, swept, number, subject) for subject in people}
            if study is apart:
                assert scores == pytest.approx(trials[number].subject_scores)
            assert np.mean(list(scores.values())) == pytest.approx(trials[number].best_score)


@pytest.mark.parametrize(
    ("who", "said"),
    [
        (("sub-001", "sub-02"), "there is no sub-02 in the shards; did you mean sub-0"),
        (("somebody",), "there is no somebody in the shards; there are sub-001, "),
    ],
)
def test_an_unknown_subject_is_one_line_before_anything_begins(
    folder: Path, tmp_path: Path, who: tuple[str, ...], said: str
) -> None:
    study = small_study(folder).model_copy(
        update={"results": tmp_path / "none", "search": Search(objective=Objective(subjects=who))}
    )
    with pytest.raises(StudyError) as raised:
        sweep(study)
    assert str(raised.value).startswith(f"search.objective.subjects: {said}")
    assert not study.results.exists()


def test_who_heard_nothing_to_be_scored_on_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = small_study(folder, objective={})
    card = open_shards(study.shards).card
    del card.subjects["sub-003"].stories["library"]
    monkeypatch.setattr(step, "open_shards", lambda _: type("Some", (), {"card": card}))
    with pytest.raises(StudyError, match=r"sub-003 heard none of library; leave that subject out"):
        sweep(study)
