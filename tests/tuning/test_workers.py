"""A trial that several workers share is the trial that one does, and outlives a worker."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from listeners import noise_listeners, on_disk, save_small_wav2vec2, speech
from safetensors.numpy import load_file

from wav2bold.config import Configuration, Search, Split, Study
from wav2bold.errors import RunsFailed, StudyError
from wav2bold.tuning import subjects, sweep
from wav2bold.tuning.tracking import Tracker

STORIES = ("bakery", "ferry", "library")
QUICK = Configuration(
    history=2, epochs=3, unfrozen={"attention": (2, 2)}, encoder_lr=1e-3, warmup_steps=1, head_l2=100.0
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two people who heard three stories of 24 s; two workers for each trial."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sounds = {story: speech(24, number) for number, story in enumerate(STORIES)}
    on_disk(tmp_path / "shards", sounds, noise_listeners(STORIES, 24, 1, {"sub-001": 3, "sub-002": 3}), 1.0)
    return Study(
        name="listeners",
        shards=tmp_path / "shards",
        encoder=str(save_small_wav2vec2(tmp_path / "encoder")),
        results=tmp_path / "results",
        split=Split(validation=("library",), test=("bakery",)),
        configuration=QUICK,
        search=Search(workers=2, space={"history": {"low": 1, "high": 2}}),
    )


def alone(study: Study) -> Study:
    return study.model_copy(update={"search": study.search.model_copy(update={"workers": 1})})


def assert_same_encoder(one: Path, other: Path) -> None:
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, atol=1e-4, err_msg=name)
    scores, wanted = (pq.read_table(folder / "scores.parquet").to_pandas() for folder in (one, other))
    np.testing.assert_allclose(scores["r_after"], wanted["r_after"], atol=1e-4)


def losses(study: Study) -> list[dict[int, float]]:
    tracker = Tracker(study)
    return [trial.scores for trial in tracker.trials(tracker.newest("refine"))]


def test_two_workers_refine_as_one_does(study: Study, small_ray: None) -> None:
    subjects.refine(alone(study), QUICK, ["sub-001"], study.results / "alone")
    subjects.refine(study, QUICK, ["sub-001"], study.results / "together")
    assert_same_encoder(study.results / "together" / "sub-001", study.results / "alone" / "sub-001")
    assert [path.name for path in (study.results / "together").iterdir()] == ["sub-001"]
    assert not list((study.results / "ray").glob("workers-*"))


def test_a_lost_worker_is_replaced_and_nothing_is_lost(study: Study, small_ray: None) -> None:
    options = QUICK.model_copy(update={"epochs": 30})
    killed: list[int] = []
    checkpoint = study.results / "killed" / ".sub-001.checkpoint" / "epoch.safetensors"

    def kill_once_it_trains() -> None:
        while not checkpoint.is_file():
            time.sleep(0.02)
        workers = [one.pid for one in psutil.process_iter(["cmdline"]) if "RayTrainWorker" in name_of(one)]
        os.kill(workers[-1], signal.SIGKILL)
        killed.append(workers[-1])

    watcher = threading.Thread(target=kill_once_it_trains)
    watcher.start()
    subjects.refine(study, options, ["sub-001"], study.results / "killed")
    watcher.join()
    assert killed
    subjects.refine(alone(study), options, ["sub-001"], study.results / "calm")
    assert_same_encoder(study.results / "killed" / "sub-001", study.results / "calm" / "sub-001")


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_mistake_is_told_as_one(study: Study, small_ray: None) -> None:
    path = next((study.shards / "bold" / "subject=sub-001" / "story=ferry").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunsFailed) as raised:
        subjects.refine(study, QUICK)
    ((name, reason),) = raised.value.failures
    assert name == "sub-001"
    assert reason.startswith(f"{path}: can't be read")
    assert (study.results / "refined" / "sub-002" / "model.safetensors").is_file()


def test_trials_of_a_sweep_that_are_stopped_early_let_their_workers_go(study: Study, small_ray: None) -> None:
    search = study.search.model_copy(update={"trials": 4, "parallel": 2})
    swept = sweep.sweep(study.model_copy(update={"search": search}))
    assert not any(one.failed for one in swept.outcomes)
    assert min(one.epochs for one in swept.outcomes) < QUICK.epochs, "one was stopped early"
    same = sweep.sweep(alone(study).model_copy(update={"search": search.model_copy(update={"workers": 1})}))
    for one, other in zip(swept.outcomes, same.outcomes, strict=True):
        assert one.best_score == pytest.approx(other.best_score, abs=1e-4)


def test_more_workers_than_there_are_cores_are_refused(study: Study, small_ray: None) -> None:
    many = study.model_copy(update={"search": study.search.model_copy(update={"workers": 5})})
    for step in (lambda: sweep.sweep(many), lambda: subjects.refine(many, QUICK)):
        with pytest.raises(StudyError, match=r"search.workers: 5 .* nearest valid value is 2"):
            step()
