"""A trial that several workers share is the trial that one does, and outlives a worker."""

import os
import signal
import threading
import time
from contextlib import suppress
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
from wav2bold.tuning.workers import reports_by_workers
from wav2bold.tuning.workshop import Workshop

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


def workers() -> list[int]:
    """Numbers of the processes of the tests' own Ray that work for Ray Train."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(one.cmdline()):
                found.append(one.pid)
    return found


def test_two_workers_of_whom_one_is_lost_refine_as_one_does(study: Study, small_ray: None) -> None:
    options = QUICK.model_copy(update={"epochs": 12})
    killed: list[int] = []
    checkpoint = study.results / "killed" / ".sub-001.checkpoint" / "epoch.safetensors"

    def kill_once_it_trains() -> None:
        while not checkpoint.is_file():
            time.sleep(0.02)
        killed.append(workers()[-1])
        os.kill(killed[0], signal.SIGKILL)

    watcher = threading.Thread(target=kill_once_it_trains)
    watcher.start()
    subjects.refine(study, options, ["sub-001"], study.results / "killed")
    watcher.join()
    assert killed
    subjects.refine(alone(study), options, ["sub-001"], study.results / "calm")
    assert_same_encoder(study.results / "killed" / "sub-001", study.results / "calm" / "sub-001")
    assert [path.name for path in (study.results / "killed").iterdir()] == ["sub-001"]
    assert not list((study.results / "ray").glob("workers-*"))


def test_a_mistake_is_told_as_one(study: Study, small_ray: None) -> None:
    path = next((study.shards / "bold" / "subject=sub-001" / "story=ferry").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunsFailed) as raised:
        subjects.refine(study, QUICK, ["sub-001"])
    ((name, reason),) = raised.value.failures
    assert name == "sub-001"
    assert reason.startswith(f"{path}: can't be read")


def test_a_trial_that_is_stopped_early_lets_its_workers_go(study: Study, small_ray: None) -> None:
    epochs = reports_by_workers(
        Workshop(study),
        {"configuration": QUICK.model_dump(mode="json"), "subjects": ["sub-001", "sub-002"]},
    )
    told = [next(epochs), next(epochs)]
    assert [report.epoch for report in told] == [0, 1]
    assert workers()
    epochs.close()
    assert not workers()
    assert not list((study.results / "ray").iterdir())


def test_more_workers_than_there_are_cores_are_refused(study: Study, small_ray: None) -> None:
    many = study.model_copy(update={"search": study.search.model_copy(update={"workers": 5})})
    for step in (lambda: sweep.sweep(many), lambda: subjects.refine(many, QUICK)):
        with pytest.raises(StudyError, match=r"search.workers: 5 .* nearest valid value is 2"):
            step()
