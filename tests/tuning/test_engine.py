"""Trials run in warm actors, and each ends in MLflow as it ended: whatever happens to its neighbours."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import ray
from listeners import on_disk, save_small_wav2vec2, speech, volumes
from ray import tune
from ray.util import placement_group_table
from waiting import eventually

from wav2bold.config import Configuration, Lora, Search, Split, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.errors import RunsFailed
from wav2bold.tuning import engine
from wav2bold.tuning import subjects as step
from wav2bold.tuning.engine import Memory, Outcome, run_trials
from wav2bold.tuning.listed import Listed
from wav2bold.tuning.sweep import sweep
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.trial import METRIC, WarmTrial

TR_S, SECONDS = 1.0, 24.0
STORIES = ("bakery", "ferry", "library", "lighthouse")
QUICK = Configuration(history=2, epochs=2, unfrozen={"attention": (2, 2)}, warmup_steps=1)


class Watched(Memory):
    """Also notes in which process every trial ran."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.processes: dict[int, set[int]] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.processes.setdefault(trial.config["task"]["number"], set()).add(result["pid"])
        super().on_trial_result(iteration, trials, trial, result, **info)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two people who heard four stories of 24 s."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    random = np.random.default_rng(0)
    sounds = {story: speech(SECONDS, number) for number, story in enumerate(STORIES)}
    bold = {
        (subject, story): volumes(random.standard_normal((int(SECONDS) + 1, 3)), TR_S)
        for subject in ("sub-001", "sub-002")
        for story in STORIES
    }
    on_disk(tmp_path / "shards", sounds, bold, TR_S)
    return Study(
        name="listeners",
        shards=tmp_path / "shards",
        encoder=str(save_small_wav2vec2(tmp_path / "encoder")),
        results=tmp_path,
        split=Split(validation=("library",), test=("lighthouse",)),
        configuration=QUICK,
        search=Search(space={"history": {"low": 1, "high": 2}}),
    )


def task(number: int, configuration: Configuration = QUICK, subject: str = "sub-001") -> Mapping[str, Any]:
    return {
        "number": number,
        "configuration": configuration.model_dump(mode="json"),
        "subjects": [subject],
    }


def run(study: Study, tasks: list[Mapping[str, Any]]) -> tuple[list[Outcome], Watched, Tracker, str]:
    tracker = Tracker(study)
    parent = tracker.begin("sweep", "sweep", study, open_shards(study.shards).card)
    memory = Watched(tracker, "trial", parent, len(tasks), lambda *_: None)
    outcomes = run_trials(study, memory, f"sweep-{parent[:8]}", len(tasks), tasks=tasks)
    return outcomes, memory, tracker, parent


def test_trials_share_warm_processes(study: Study, small_ray: None) -> None:
    _, memory, _, _ = run(study, [task(number) for number in range(8)])
    assert sorted(memory.processes) == list(range(8))
    assert len(set.union(*memory.processes.values())) <= study.search.parallel


@pytest.mark.parametrize("waits", [False, True], ids=["one by one", "in batches"])
def test_no_warm_process_is_thrown_away_while_trials_come(
    study: Study, small_ray: None, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """The second takes longer to start than trials to run, or none has work until both are free."""
    folder = study.results / "begun"
    folder.mkdir()

    class SlowToStart(tune.Trainable):
        def setup(self, config: dict[str, Any], **given: Any) -> None:
            time.sleep(3 if any(folder.iterdir()) else 1)
            (folder / str(os.getpid())).touch()

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(0.3)
            said = {"score": 0.0, METRIC: 0.0, "epoch": 0, "failed": "", "note": "", "system": {}}
            return said | {"last": True, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None

    monkeypatch.setattr(engine, "WarmTrial", SlowToStart)
    if waits:
        monkeypatch.setattr(Listed, "suggest", in_batches(Listed.suggest))
    outcomes, memory, _, _ = run(study, [task(number) for number in range(16)])
    assert [one.reason for one in outcomes] == 16 * [""]
    assert len(set.union(*memory.processes.values())) == len(list(folder.iterdir())) == 2


def in_batches(suggest: Callable[[Listed, str], Any]) -> Callable[[Listed, str], Any]:
    """`suggest`, but the next two only when both have ended."""
    given: list[str] = []

    def next_of(self: Listed, trial_id: str) -> Any:
        if len(given) % 2 == 0 and self._running:
            return None
        one = suggest(self, trial_id)
        if isinstance(one, dict):
            given.append(trial_id)
        return one

    return next_of


def test_a_trial_that_fails_is_told_and_the_others_finish(study: Study, small_ray: None) -> None:
    # a range that the encoder lacks, and a subject that the shards lack
    wild = QUICK.model_copy(update={"unfrozen": {"attention": (0, 99)}})
    tasks = [task(0), task(1, wild), task(2), task(3, subject="sub-009"), task(4)]
    once = study.model_copy(update={"search": study.search.model_copy(update={"max_failures": 0})})
    outcomes, _, tracker, parent = run(once, tasks)
    assert [one.number for one in outcomes] == [0, 1, 2, 3, 4]
    assert [one.failed for one in outcomes] == [False, True, False, True, False]
    assert "unfrozen.attention: there is no layer 99 in " in outcomes[1].reason
    assert outcomes[3].reason == "KeyError: 'sub-009'"
    assert all("\n" not in one.reason and "Traceback" not in one.reason for one in outcomes)
    remembered = tracker.trials(parent)
    assert [trial.status for trial in remembered] == ["FINISHED", "FAILED", "FINISHED", "FAILED", "FINISHED"]
    assert [len(remembered[number].scores) for number in (0, 2, 4)] == [3, 3, 3]
    assert remembered[0].scores == remembered[2].scores == remembered[4].scores  # no trial leaves a trace


def test_a_trial_that_dies_is_tried_again_and_then_fails_with_its_reason(
    study: Study, small_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = study.results / "lives"
    lives.mkdir()

    class Mortal(WarmTrial):
        """Trial 1 loses its process after an epoch, once; trial 2 has no room, ever."""

        def step(self) -> dict[str, Any]:
            number = self._task["number"]
            told = self._best > float("-inf")
            if not told:
                (lives / f"{number}-{uuid4()}").touch()
            died_before = len(list(lives.glob(f"{number}-*"))) > 1
            if number == 1 and told and not died_before:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 2:
                raise MemoryError("no room")
            return super().step()

    monkeypatch.setattr(engine, "WarmTrial", Mortal)
    search = study.search.model_copy(update={"max_failures": 2})
    outcomes, _, tracker, parent = run(
        study.model_copy(update={"search": search}),
        [task(0), task(1), task(2), task(3, QUICK.model_copy(update={"unfrozen": {"attention": (0, 99)}}))],
    )
    assert [one.failed for one in outcomes] == [False, False, True, True]
    assert outcomes[2].reason == "MemoryError: no room"
    tried = [len(list(lives.glob(f"{number}-*"))) for number in range(4)]
    assert tried == [1, 2, 3, 1]
    remembered = tracker.trials(parent)
    assert [trial.status for trial in remembered] == ["FINISHED", "FINISHED", "FAILED", "FAILED"]
    assert remembered[2].reason == "MemoryError: no room"
    assert remembered[1].scores == remembered[0].scores  # each epoch once, though told twice


def test_a_trial_of_adapters_alone_runs_all_its_epochs(study: Study, small_ray: None) -> None:
    adapters = QUICK.model_copy(update={"unfrozen": {}, "lora": Lora(rank=2)})
    (outcome,), _, tracker, parent = run(study, [task(0, adapters)])
    assert not outcome.failed
    (remembered,) = tracker.trials(parent)
    assert remembered.configuration == adapters
    assert len(remembered.scores) == 1 + adapters.epochs


def test_a_trial_that_is_stopped_after_a_subject_is_remembered_with_those_it_had(
    study: Study, small_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial is worse than the one before: all but those of the first batch are stopped at once."""

    class Worse(WarmTrial):
        def step(self) -> dict[str, Any]:
            told = super().step()
            score = 0.5 - 0.01 * self._task["number"] - 0.2 * told["epoch"]
            return told | {"score": score, "subject_score": score, "best_score": score}

    monkeypatch.setattr(engine, "WarmTrial", Worse)
    options = {"trials": 6, "sampler": "random", "objective": {"reduce": "min"}}
    of = study.model_copy(update={"search": Search(space=study.search.space, **options)})
    swept = sweep(of)
    tracker = Tracker(of)
    remembered = tracker.trials(tracker.newest_sweep())
    assert [trial.is_whole for trial in remembered] == [True, True, False, False, False, False]
    assert [len(trial.subject_scores) for trial in remembered] == [2, 2, 1, 1, 1, 1]
    assert {trial.status for trial in remembered} == {"FINISHED"}
    assert swept.best.number == 0  # of 0.3; those that were stopped have 0.45 and more
    assert swept.certainty == "the best is the paper's configuration itself"


def test_refine_tells_who_failed_and_keeps_the_others(study: Study, small_ray: None) -> None:
    # sub-002's shard is cut short after everything was checked
    path = next((study.shards / "bold" / "subject=sub-002" / "story=ferry").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunsFailed) as raised:
        step.refine(study, QUICK)
    ((name, reason),) = raised.value.failures
    assert name == "sub-002"
    assert "prepare" in reason
    assert (study.results / "refined" / "sub-001" / "model.safetensors").is_file()
    assert not (study.results / "refined" / "sub-002").exists()
    on_disk_again = step.refine(study, QUICK, ["sub-001"])
    assert on_disk_again.kept == ("sub-001",)


def test_a_whole_batch_stands_in_line_for_an_autoscaler_to_see(study: Study, small_ray: None) -> None:
    """Two of four trials find a place on two cores; Tune by itself would let one of the others wait."""
    waiting: list[int] = []

    def look(what: str, done: int, _total: int) -> None:
        states = [group["state"] for group in placement_group_table().values()]
        waiting.append(states.count("PENDING"))

    search = study.search.model_copy(update={"parallel": 4, "trials": 4})
    sweep(study.model_copy(update={"search": search}), progress=look)
    assert waiting[0] == 2


def interrupted(study: Study) -> list[str]:
    """How the trials of a sweep of six stand that was interrupted after the second."""
    tracker = Tracker(study)
    parent = tracker.begin("sweep", "sweep", study, open_shards(study.shards).card)

    def interrupt(what: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    memory = Memory(tracker, "trial", parent, 6, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_trials(study, memory, f"sweep-{parent[:8]}", 6, tasks=[task(number) for number in range(6)])
    return [trial.status for trial in tracker.trials(parent)]


def test_an_interruption_ends_open_trials_as_killed(study: Study, small_ray: None) -> None:
    states = interrupted(study)
    assert states.count("FINISHED") == 2
    assert set(states) <= {"FINISHED", "KILLED"}


def test_an_interruption_gives_back_the_cores_of_its_actors(study: Study, small_ray: None) -> None:
    interrupted(study)
    cores = ray.cluster_resources()["CPU"]
    eventually(lambda: ray.available_resources().get("CPU") == cores, 60, "all cores are free")


def test_an_interrupted_refine_goes_on_and_leaves_no_checkpoint(study: Study, small_ray: None) -> None:
    def interrupt(what: str, _done: int, _total: int) -> None:
        if "epoch 1" in what:
            raise KeyboardInterrupt

    out = study.results / "refined"
    with pytest.raises(KeyboardInterrupt):
        step.refine(study, QUICK, ["sub-001"], progress=interrupt)
    assert [path.name for path in out.iterdir()] == [".sub-001.checkpoint"]
    assert step.refine(study, QUICK, ["sub-001"]).done == ("sub-001",)
    assert [path.name for path in out.iterdir()] == ["sub-001"]
    told = json.loads((out / "sub-001" / "refined.json").read_text())["epochs"]
    assert [one["epoch"] for one in told] == [0, 1, 2]
