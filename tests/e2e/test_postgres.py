"""A sweep that `mlflow server` and Optuna both remember in PostgreSQL, through kills of both its ends."""

from pathlib import Path

import optuna
import pytest
from commands import Made, begun, killed, shown, succeeds
from postgres import postgres
from servers import free_port, served

from wav2bold.config import Study
from wav2bold.tuning.tracking import Tracker

pytestmark = pytest.mark.slow
TRIALS = 4


def test_a_sweep_on_postgresql_outlives_its_driver_and_its_mlflow(
    tiny: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with postgres(free_port(), "mlflow", "optuna") as database:
        storage = f"{database}/optuna"
        options = {"trials": TRIALS, "parallel": 1, "storage": storage}
        path = tiny.study_at(tmp_path, **{f"search__{name}": value for name, value in options.items()})
        with served(tmp_path, f"{database}/mlflow", port) as uri:
            env = {"MLFLOW_TRACKING_URI": uri}
            killed("sweep", path, sign=f"1/{TRIALS}", env=env)
            resumed = begun("sweep", path, "--resume", env=env)
            shown(resumed, f"2/{TRIALS}")
        with served(tmp_path, f"{database}/mlflow", port):
            rest = resumed.said.read()
            assert resumed.process.wait(60) == 0, rest
            winner = succeeds("best", path, env=env).out.splitlines()[0]
            monkeypatch.setenv(*next(iter(env.items())))
            tracker = Tracker(Study.load(path), make=False)
            sweep = tracker.newest_sweep()
            trials = tracker.trials(sweep)
            memory = optuna.load_study(study_name=f"{Study.load(path).name}/{sweep}", storage=storage)
            told = [trial.value for trial in memory.trials]
    assert [(one.number, one.status) for one in trials] == [(n, "FINISHED") for n in range(TRIALS)]
    assert told == [one.best_score for one in trials]
    best = max(trials, key=lambda one: one.best_score)
    assert winner == f"trial {best.number}, brain score {best.best_score:.4f} on the validation stories"
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "optuna.db").exists()
    assert list(tmp_path.glob("unsent.*")) == []
