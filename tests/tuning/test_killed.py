"""A sweep whose driver is killed, again and again, ends as if it had not been."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import optuna
import pytest
from drivers import drive, small_study, sweep_here

from wav2bold.config import Study
from wav2bold.tuning.best import winner_of
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.storage import storage_url
from wav2bold.tuning.tracking import Tracker

TRIALS, KILLS = 7, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


def trials_of(study: Study) -> list[Trial]:
    tracker = Tracker(study)
    return tracker.trials(tracker.newest_sweep())


def finished(study: Study) -> dict[str, int]:
    """When each finished run ended, by run id."""
    client = mlflow.MlflowClient(Tracker(study).uri)
    ids = [trial.run_id for trial in trials_of(study) if trial.status == "FINISHED"]
    return {run_id: client.get_run(run_id).info.end_time for run_id in ids}


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_sweep_that_is_killed_at_random_moments_finds_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    options = {"trials": TRIALS, "parallel": parallel}
    calm = small_study(folder, f"calm-{parallel}", **options)
    code, statements = drive(calm)
    assert code == 0
    killed = small_study(folder, f"killed-{parallel}", **options)
    random = np.random.default_rng(parallel)
    done: dict[str, int] = {}
    for _ in range(KILLS // parallel):
        code, _ = drive(killed, int(random.integers(1, statements // 3)), resume=True)
        assert code in (-signal.SIGKILL, 0)
        try:
            now = finished(killed)
        except Exception:  # before the sweep's own run was there
            assert not done
            continue
        assert done.items() <= now.items()  # what had finished was let alone
        done = now
    assert drive(killed, resume=True)[0] == 0

    wanted, found = trials_of(calm), trials_of(killed)
    assert [trial.number for trial in found] == list(range(TRIALS))
    assert {trial.status for trial in found} == {"FINISHED"}
    for one, other in zip(found, wanted, strict=True):
        assert one.configuration == other.configuration
        assert one.scores == other.scores
    assert winner_of(found).number == winner_of(wanted).number

    tracker = Tracker(killed)
    client = mlflow.MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name(killed.name)
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + TRIALS
    assert {run.info.status for run in runs} == {"FINISHED"}
    memory = optuna.load_study(
        study_name=f"{killed.name}/{tracker.newest_sweep()}", storage=storage_url(killed)
    )
    assert [trial.value for trial in memory.trials] == [trial.best_score for trial in found]


@pytest.mark.parametrize(("stopping", "parallel"), [("asha", 1), ("median", 2)])
def test_a_sweep_whose_actors_are_killed_at_random_moments_finds_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stopping: str, parallel: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    options = {"trials": TRIALS, "stopping": stopping, "parallel": parallel}
    calm = small_study(folder, f"calm-{stopping}", **options)
    sweep_here(calm)
    study = small_study(folder, f"actors-{stopping}", **options)
    random = np.random.default_rng(parallel)
    calls = random.choice(2 * TRIALS + KILLS, KILLS, replace=False).tolist()
    seconds = random.uniform(0, 0.1, KILLS).tolist()  # within a step, or between two
    sweep_here(study, dict(zip(calls, seconds, strict=True)))
    wanted, found = trials_of(calm), trials_of(study)
    assert [(one.number, one.status) for one in found] == [(number, "FINISHED") for number in range(TRIALS)]
    assert [one.configuration for one in found] == [one.configuration for one in wanted]
    assert [one.scores for one in found] == [one.scores for one in wanted]
    assert winner_of(found).number == winner_of(wanted).number
    client = mlflow.MlflowClient(Tracker(study).uri)
    runs = client.search_runs([client.get_experiment_by_name(study.name).experiment_id])
    assert len(runs) == 1 + TRIALS


def test_a_sweep_that_has_ended_takes_more_trials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    few = small_study(folder, "more", trials=2)
    assert drive(few)[0] == 0
    before = finished(few)
    assert drive(small_study(folder, "more", trials=5), resume=True)[0] == 0
    assert before.items() <= finished(few).items()
    assert [(trial.number, trial.status) for trial in trials_of(few)] == [(n, "FINISHED") for n in range(5)]


def test_of_sweeps_at_once_those_of_other_names_are_whole_and_one_of_the_same_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    one, other = (small_study(folder, name, trials=3) for name in ("one", "other"))
    with ThreadPoolExecutor() as threads:
        codes = [code for code, _ in threads.map(drive, (one, other, one))]
    assert codes[1] == 0
    assert sorted((codes[0], codes[2])) == [0, 1]
    for study in (one, other):
        runs = mlflow.MlflowClient(Tracker(study).uri).search_runs(
            [mlflow.MlflowClient(Tracker(study).uri).get_experiment_by_name(study.name).experiment_id]
        )
        assert [run.info.status for run in runs] == ["FINISHED"] * 4
