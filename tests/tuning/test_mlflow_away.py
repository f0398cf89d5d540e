"""An MLflow that is killed, stopped or slow while a sweep goes on has all of it in the end, once."""

import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import made_up
import mlflow
import numpy as np
import pytest
from drivers import Disturber, drive, small_study, sweep_here
from mlflow.entities import Run
from servers import Server, mlflow_server
from waiting import eventually

from wav2bold.config import Configuration, Study
from wav2bold.errors import TrackingError
from wav2bold.tuning.best import best, winner_of
from wav2bold.tuning.outbox import opened, outbox
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.tracking import Tracker

TRIALS, KILLS = 7, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("away")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with mlflow_server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def calm(folder: Path) -> tuple[list[Trial], int]:
    """Trials of a sweep that nobody disturbed, in a file, and how often it told of its progress."""
    study, watch = small_study(folder, "calm", trials=TRIALS, parallel=1), Disturber({})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        sweep_here(study, progress=watch)
        return trials_of(study), watch.told


@pytest.fixture(autouse=True)
def _there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)


def trials_of(study: Study) -> list[Trial]:
    tracker = Tracker(study, make=False)
    return tracker.trials(tracker.newest_sweep())


def runs_of(study: Study) -> list[Run]:
    client = mlflow.MlflowClient(Tracker(study, make=False).uri)
    return list(client.search_runs([client.get_experiment_by_name(study.name).experiment_id]))


def check_whole(study: Study, wanted: list[Trial], begun_anew: int = 0) -> None:
    """MLflow has what the undisturbed sweep left: each trial once, ended, with all metrics in order.

    begun_anew: how many trials a killed driver may have had under way, whose first life has told of an epoch.
    """
    found = trials_of(study)
    assert [(one.number, one.status, one.configuration) for one in found] == [
        (one.number, one.status, one.configuration) for one in wanted
    ]
    assert [one.scores for one in found] == [one.scores for one in wanted]
    assert {one.status for one in found} == {"FINISHED"}
    assert winner_of(found).number == winner_of(wanted).number == best(study).number
    runs = runs_of(study)
    assert len(runs) == 1 + len(wanted)
    assert {run.info.status for run in runs} == {"FINISHED"}
    client, told_twice = mlflow.MlflowClient(), set()
    for trial in found:
        assert not math.isnan(trial.seconds)
        for metric in ("score", "white_score", "best_score", "seconds"):
            history = client.get_metric_history(trial.run_id, metric)
            in_time = sorted(history, key=lambda one: one.timestamp)
            steps = [one.step for one in in_time]
            assert sorted(set(steps)) == list(range(len(trial.scores)))
            if steps != list(range(len(trial.scores))):
                told_twice.add(trial.number)
    assert len(told_twice) <= begun_anew
    assert list(study.results.glob(f"unsent.{study.name}.*")) == []


@pytest.mark.parametrize("seed", [0])
def test_a_server_that_is_killed_at_random_moments_and_stopped_once_lacks_nothing(
    folder: Path, server: Server, calm: tuple[list[Trial], int], seed: int
) -> None:
    wanted, tells = calm
    random = np.random.default_rng(seed)
    moments = np.sort(random.choice(np.arange(1, tells), 2 * (KILLS + 1), replace=False)).tolist()
    stopped = int(random.integers(KILLS + 1))
    leaves = {moment: pair == stopped for pair, moment in enumerate(moments[::2])}
    returns = {moment: pair == stopped for pair, moment in enumerate(moments[1::2])}
    disturbed = 0
    told = 0

    def disturb(what: str, done: int, total: int) -> None:
        nonlocal disturbed, told
        told += 1
        if told in leaves:
            time.sleep(random.uniform(0, 0.05))  # whatever is being sent by then
            server.signal(signal.SIGSTOP if leaves[told] else signal.SIGKILL)
            disturbed += 1
        if told in returns:
            if returns[told]:
                time.sleep(1)
                server.signal(signal.SIGCONT)
            else:
                server.start()

    study = small_study(folder, f"away-{seed}", trials=TRIALS, parallel=1)
    swept = sweep_here(study, progress=disturb)
    assert disturbed == KILLS + 1
    check_whole(study, wanted)
    assert {one.run_id for one in swept.outcomes} == {one.run_id for one in trials_of(study)}


def test_a_sweep_whose_server_stays_away_ends_in_one_line_and_the_next_command_sends_the_rest(
    folder: Path, server: Server, calm: tuple[list[Trial], int]
) -> None:
    wanted, tells = calm
    study = small_study(folder, "never", trials=TRIALS, parallel=1, mlflow_wait_s=0.5)
    with pytest.raises(TrackingError) as raised:
        sweep_here(study, progress=Disturber({tells // 2: (server.pid, signal.SIGKILL)}))
    (unsent,) = study.results.glob("unsent.never.*")
    assert "\n" not in str(raised.value)
    assert str(unsent) in str(raised.value)
    assert "--resume" in str(raised.value)
    with pytest.raises(TrackingError, match="can't be used"):
        best(study)  # as long as it is away
    server.start()
    assert best(study).number == winner_of(wanted).number
    check_whole(study, wanted)
    before = runs_of(study)
    sweep_here(study, resume=True)  # has nothing left to run
    assert [run.info.end_time for run in before[:-1]] == [run.info.end_time for run in runs_of(study)[:-1]]


@pytest.mark.parametrize("back", ["before the driver is killed", "after"])
def test_a_driver_that_is_killed_while_the_server_is_away_loses_nothing(
    folder: Path, server: Server, calm: tuple[list[Trial], int], back: str
) -> None:
    wanted, tells = calm
    study = small_study(folder, f"both-{back[0]}", trials=TRIALS, parallel=1)
    away = signal.SIGKILL if back == "after" else signal.SIGSTOP
    plan = {tells // 4: (server.pid, away), 3 * tells // 4: (None, signal.SIGKILL)}
    if back != "after":
        plan[3 * tells // 4 - 1] = (server.pid, signal.SIGCONT)
    code, _ = drive(study, server=server.uri, progress=Disturber(plan))
    assert code == -signal.SIGKILL
    if back == "after":
        server.start()
        ended = [trial for trial in trials_of(study) if trial.status == "FINISHED"]
        opened(study, make=False)
        now = [trial for trial in trials_of(study) if trial.status == "FINISHED"]
        assert len(now) > len(ended)  # some had ended that MLflow knew nothing of
        kept = {trial.run_id: trial.seconds for trial in now}
    else:
        kept = {}
    assert drive(study, server=server.uri, resume=True)[0] == 0
    check_whole(study, wanted, begun_anew=1)
    assert kept.items() <= {trial.run_id: trial.seconds for trial in trials_of(study)}.items()


def test_what_mlflow_refuses_is_told_of_and_holds_up_nothing(folder: Path) -> None:
    study = small_study(folder, "refused")
    tracker = Tracker(study)
    sweep = tracker.begin("sweep", "sweep", study, made_up.findings().card)
    box = outbox(tracker, study, sweep, lambda *_: None)
    gone, there = (
        box.begin_trial("trial", f"trial {number}", sweep, Configuration(), {"number": number})
        for number in range(2)
    )
    eventually(lambda: box.run_id(gone) != gone, 60, "the run has an id")
    mlflow.MlflowClient().delete_run(box.run_id(gone))
    box.metrics(gone, {"score": 0.5}, 0)
    box.metrics(there, {"score": 0.25}, 0)
    box.tags(gone, {"tag": "too late"})
    box.end(there)
    said = r"refused 2 records .*; they are in .*unsent\.refused\..*\.refused\.jsonl"
    with pytest.raises(TrackingError, match=said), box:
        pass
    (trial,) = tracker.trials(sweep)
    assert (trial.number, trial.status, trial.scores) == (1, "FINISHED", (0.25,))
    (aside,) = study.results.glob("unsent.refused.*")
    assert len(aside.read_text().splitlines()) == 2
