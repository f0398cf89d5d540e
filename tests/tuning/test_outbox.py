"""What waits to be sent is sent once and in order, whatever became of its process, or of the answers."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import made_up
import mlflow
import pytest
from mlflow.exceptions import MlflowException

from wav2bold.config import Configuration, Study
from wav2bold.errors import StorageError
from wav2bold.tuning import records as on_disk
from wav2bold.tuning.outbox import Outbox, opened, outbox
from wav2bold.tuning.records import begin_records
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.tracking import Tracker


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = made_up.findings().study
    search = study.search.model_copy(update={"mlflow_wait_s": 30})
    return study.model_copy(update={"name": "waiting", "results": tmp_path, "search": search})


@pytest.fixture
def tracker(study: Study) -> Tracker:
    return Tracker(study)


@pytest.fixture
def sweep(study: Study, tracker: Tracker) -> str:
    return tracker.begin("sweep", "sweep", study, made_up.findings().card)


def begin(study: Study, tracker: Tracker, sweep: str) -> Outbox:
    return outbox(tracker, study, sweep, lambda *_: None)


def a_trial(box: Outbox, sweep: str, number: int = 0) -> str:
    run = box.begin_trial("trial", f"trial {number}", sweep, Configuration(), {"number": number})
    for epoch, score in enumerate((0.25, 0.5)):
        box.metrics(run, {"score": score, "loss": float("nan")}, epoch)
    box.tags(run, {"told": "yes"})
    box.end(run)
    return run


def check_once(tracker: Tracker, sweep: str) -> Trial:
    """The trial of `a_trial` is there, once, and so is each of its metrics."""
    (trial,) = tracker.trials(sweep)
    assert (trial.number, trial.status, trial.scores) == (0, "FINISHED", (0.25, 0.5))
    client = mlflow.MlflowClient(tracker.uri)
    assert [one.step for one in client.get_metric_history(trial.run_id, "score")] == [0, 1]
    assert client.get_run(trial.run_id).data.tags["told"] == "yes"
    assert len(client.search_runs([client.get_experiment_by_name("waiting").experiment_id])) == 2
    return trial


def unsent(study: Study) -> list[Path]:
    return sorted(study.results.glob("unsent.*"))


def test_what_an_answer_was_lost_of_is_there_once(
    study: Study, tracker: Tracker, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {"create_run": 0, "log_batch": 0, "set_terminated": 0}

    def forgetful(name: str) -> Any:
        plain = getattr(mlflow.MlflowClient, name)

        def call(self: mlflow.MlflowClient, *given: Any, **options: Any) -> Any:
            answer = plain(self, *given, **options)
            lost[name] += 1
            if lost[name] % 2:
                raise MlflowException("API request failed with exception connection reset")
            return answer

        return call

    for name in lost:
        monkeypatch.setattr(mlflow.MlflowClient, name, forgetful(name))
    with begin(study, tracker, sweep) as box:
        run = a_trial(box, sweep)
    assert lost["create_run"] == 1  # it was found, not made again
    assert lost["log_batch"] >= 6
    assert lost["set_terminated"] == 2
    assert check_once(tracker, sweep).run_id == box.run_id(run)


def test_a_run_that_was_asked_for_twice_and_made_twice_is_there_once(
    study: Study, tracker: Tracker, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, late = mlflow.MlflowClient.create_run, []

    def create(self: mlflow.MlflowClient, *given: Any, **options: Any) -> Any:
        if not late:  # lies in the server's socket, beyond our patience
            late.append((given, options))
            raise MlflowException("API request failed with timeout exception")
        made = plain(self, *given, **options)
        held, named = late[0]
        plain(self, *held, **named)
        return made

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", create)
    with begin(study, tracker, sweep) as box:
        run = a_trial(box, sweep)
    assert check_once(tracker, sweep).run_id == box.run_id(run)


def killed(study: Study, tracker: Tracker, sweep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a process leaves that was killed before it had sent anything: its file, unlocked."""
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "_start", lambda self: None)
        box = begin(study, tracker, sweep)
        a_trial(box, sweep)
        box._records._file.close()


def test_the_next_command_sends_what_a_killed_process_left(
    study: Study, tracker: Tracker, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(study, tracker, sweep, monkeypatch)
    assert tracker.trials(sweep) == []
    check_once(opened(study, make=False), sweep)
    assert unsent(study) == []


def test_what_was_sent_before_the_kill_may_be_sent_again(
    study: Study, tracker: Tracker, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(study, tracker, sweep, monkeypatch)
    (path,) = unsent(study)
    content = path.read_bytes()
    opened(study)
    before = check_once(tracker, sweep)
    path.write_bytes(content)
    assert check_once(opened(study), sweep).run_id == before.run_id


def test_a_line_that_was_torn_is_left_out_and_those_before_it_are_sent(
    study: Study, tracker: Tracker, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(study, tracker, sweep, monkeypatch)
    (path,) = unsent(study)
    with path.open("ab") as file:
        file.write(b'{"do": "tags", "run"')
    check_once(opened(study), sweep)
    assert unsent(study) == []


def test_the_files_of_living_processes_other_studies_and_other_servers_are_let_alone(
    study: Study, tracker: Tracker, sweep: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    killed(study, tracker, sweep, monkeypatch)
    (path,) = unsent(study)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
        opened(study)
    assert unsent(study) == [path]
    opened(study.model_copy(update={"name": "wait"}))
    opened(study.model_copy(update={"name": "waiting.too"}))
    assert unsent(study) == [path]
    with path.open("a+b") as file:
        assert on_disk.take(file) is on_disk.Lock.HELD
        opened(study)
        assert unsent(study) == [path]
    opened(study)
    assert unsent(study) == []


def test_a_disk_that_is_full_ends_the_sweep_in_one_line_and_keeps_what_it_took(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = begin_records(study.results, study.name, {"parent": "p"})
    records.add({"number": 0})

    def half(file: Any, line: bytes) -> None:
        file.write(line[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(on_disk, "_write", half)
        with pytest.raises(
            StorageError, match=r"unsent\.waiting\..*No space left on device; free some space"
        ):
            records.add({"number": 1})
    records.add({"number": 2})
    assert [json.loads(line) for line in records.path.read_bytes().splitlines()[1:]] == [
        {"number": 0},
        {"number": 2},
    ]
    records.close(remove=True)


def test_a_file_whose_records_are_all_sent_does_not_grow(study: Study) -> None:
    records = begin_records(study.results, study.name, {"parent": "p"})
    size = records.path.stat().st_size
    long = "x" * 3 * on_disk.CHUNK
    for number in range(3):
        records.add({"number": number, "long": long})
        records.add({"number": -number})
        assert records.first() == {"number": number, "long": long}
        records.drop()
        assert records.first() == {"number": -number}
        records.drop()
        assert records.path.stat().st_size == size
    records.close(remove=True)
    assert unsent(study) == []
