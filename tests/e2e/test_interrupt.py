"""Ctrl-C ends a sweep soon and wholly, and keeps what was finished."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
import pytest
from commands import Made, environment, executable, succeeds

from wav2bold.config import Study
from wav2bold.tuning.tracking import Tracker

pytestmark = [pytest.mark.slow, pytest.mark.alone]
WITHIN_S = 10.0


@dataclass(frozen=True)
class Ended:
    """An interrupted command. left: processes of its session still there `WITHIN_S` after the signal."""

    code: int
    shown: str
    seconds: float
    processes: int
    left: list[str]


def interrupted(words: list[str], sign: str, group: bool, twice: bool = False) -> Ended:
    """Start a command as a terminal does, wait until it shows `sign`, and send SIGINT."""
    command = subprocess.Popen(
        [executable(), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    shown = []
    assert command.stdout is not None
    for line in command.stdout:
        shown.append(line)
        if sign in line:
            break
    family = [one for one in psutil.process_iter() if _session(one) == command.pid]
    family += psutil.Process(command.pid).children(recursive=True)
    send = os.killpg if group else os.kill
    begun = time.monotonic()
    send(command.pid, signal.SIGINT)
    if twice:
        time.sleep(0.5)
        send(command.pid, signal.SIGINT)
    try:
        code = command.wait(60)
        seconds = time.monotonic() - begun
        psutil.wait_procs(family, timeout=max(WITHIN_S - seconds, 0))
        left = [f"{one.pid} {one.name()}" for one in family if one.is_running() and not _is_dead(one)]
    finally:
        for one in family:
            if one.is_running():
                one.kill()
    shown += list(command.stdout)
    command.stdout.close()
    return Ended(code, "".join(shown), seconds, len({one.pid for one in family}), left)


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)  # nobody in a container may reap it
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("group", "twice"),
    [(True, False), (False, False), (True, True)],
    ids=["terminal", "process alone", "pressed twice"],
)
def test_interrupting_a_sweep_ends_all_and_keeps_what_was_finished(
    tiny: Made, tmp_path: Path, group: bool, twice: bool
) -> None:
    path = tiny.study_at(tmp_path, search__trials=20, configuration__epochs=3, search__grace_epochs=3)
    ended = interrupted(["sweep", str(path)], " done", group, twice)
    assert ended.code == 130, ended.shown[-3000:]
    assert ended.seconds < WITHIN_S
    assert ended.processes > 4  # Ray's servers and workers were among those looked for
    assert ended.left == []
    assert "Traceback" not in ended.shown
    assert ended.shown.splitlines()[-1] == "interrupted; what was finished is kept"

    tracker = Tracker(Study.load(path))
    sweep = tracker.newest_sweep()
    trials = tracker.trials(sweep)
    states = [trial.status for trial in trials]
    assert "FINISHED" in states
    assert set(states) <= {"FINISHED", "KILLED"}
    assert sorted(trial.number for trial in trials) == list(range(len(trials)))
    for trial in trials:
        assert trial.status != "FINISHED" or trial.scores
    assert mlflow.MlflowClient(tracker.uri).get_run(sweep).info.status == "KILLED"
    best = max((one for one in trials if one.status == "FINISHED"), key=lambda one: one.best_score)
    assert succeeds("best", path).out.startswith(f"trial {best.number}, brain score {best.best_score:.4f}")


def test_interrupting_prepare_leaves_no_half_written_shard_and_it_goes_on(tiny: Made, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    ended = interrupted(["prepare", str(tiny.recordings), "--out", str(shards)], "reading", True)
    assert ended.code == 130, ended.shown[-3000:]
    assert ended.left == []
    assert not (shards / "dataset.json").exists()
    succeeds("prepare", tiny.recordings, "--out", shards)
    assert (shards / "dataset.json").read_bytes() == (tiny.shards / "dataset.json").read_bytes()
    assert [path for path in shards.rglob("*") if "partial" in path.name] == []


def test_interrupting_refine_leaves_no_half_written_encoder_and_it_goes_on(
    tiny: Made, tmp_path: Path
) -> None:
    path = tiny.study_at(tmp_path, configuration__epochs=40)
    ended = interrupted(["refine", str(path), "--subjects", "sub-001,sub-002"], "epoch 0", True)
    assert ended.code == 130, ended.shown[-3000:]
    assert ended.left == []
    folder = tmp_path / "refined-paper"
    left = list(folder.iterdir()) if folder.exists() else []
    assert all(one.name.startswith(".sub-") and one.name.endswith(".checkpoint") for one in left)
