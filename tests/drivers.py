"""A sweep's driver in a process of its own, which can be killed at any statement it sends to a database."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from listeners import on_disk, save_small_wav2vec2, speech, volumes

from wav2bold.config import Configuration, Search, Split, Study

STORIES = ("bakery", "ferry", "library", "lighthouse")
SECONDS, TR_S = 24.0, 1.0
TAKES_S = 120
HEAVY = ["wav2bold.tuning.sweep", "transformers.models.wav2vec2", "mlflow.store.tracking.sqlalchemy_store"]


def small_study(
    folder: Path, name: str = "listeners", people: Sequence[str] = ("sub-001",), **search: Any
) -> Study:
    """A person, or several, who heard four stories of 24 s; a trial takes a tenth of a second."""
    if not (folder / "shards").exists():
        random = np.random.default_rng(0)
        sounds = {story: speech(SECONDS, number) for number, story in enumerate(STORIES)}
        bold = {
            (person, story): volumes(random.standard_normal((int(SECONDS) + 1, 3)), TR_S)
            for person in people
            for story in STORIES
        }
        on_disk(folder / "shards", sounds, bold, TR_S)
        save_small_wav2vec2(folder / "encoder")
    return Study(
        name=name,
        shards=folder / "shards",
        encoder=str(folder / "encoder"),
        results=folder / "results",
        split=Split(validation=("library",), test=("lighthouse",)),
        configuration=Configuration(history=2, epochs=2, unfrozen={"attention": (2, 2)}, warmup_steps=1),
        search=Search(**{"space": {"history": {"low": 1, "high": 3}}, **search}),
    )


def drive(study: Study, kill_at: int | None = None, **options: Any) -> tuple[int, int]:
    """Sweep in another process, trials in that same process; its exit code and how many statements it sent.

    kill_at: the statement, counted from 1, after which it is killed; the count is then that.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    sent = context.Value("i", 0)
    process = context.Process(target=_drive, args=(study, sent, kill_at, options))
    process.start()
    process.join(TAKES_S)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode is not None, f"a sweep of a few seconds did not end within {TAKES_S} s"
    return process.exitcode, sent.value


class Running(SimpleNamespace):
    """A trial: Ray's are keys of dictionaries."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def stand_ins() -> dict[str, Any]:
    """What a sweep without a cluster has in place of names of `wav2bold.tuning.sweep`."""
    from wav2bold.cluster.connect import Resources

    return {
        "connected": lambda *_: nullcontext(Resources(2, 0)),
        "refuse_on_this_cluster": lambda *_: None,
        "check_storage": lambda *_: None,
        "run_trials": _side_by_side,
    }


def _drive(study: Study, sent: Any, kill_at: int | None, options: dict[str, Any]) -> None:
    from sqlalchemy import Engine, event

    from wav2bold.errors import TrackingError
    from wav2bold.tuning import sweep as step

    def count(*anything: object) -> None:
        sent.value += 1
        if sent.value == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    for name, stand_in in stand_ins().items():
        setattr(step, name, stand_in)
    event.listen(Engine, "after_cursor_execute", count)
    try:
        step.sweep(study, **options)
    except TrackingError as error:
        if "remembers no sweep" not in str(error):  # killed before there was anything to go on with
            raise
        step.sweep(study)


def _side_by_side(study: Study, memory: Any, name: str, trials: int, *, search: Any, scheduler: Any) -> None:
    """Trials as Ray Tune runs them, without Ray: as many at once as are proposed, whichever is faster.

    Who is told of what, and in which order, is as in Ray 2.60's `TuneController`.
    """
    from ray.tune.schedulers import TrialScheduler

    from wav2bold.tuning.trial import WarmTrial

    class Here(WarmTrial):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config, study.model_dump(mode="json"))

    random = np.random.default_rng()  # speed is chance
    running: list[Any] = []
    idle: list[Here] = []
    asked = 0
    while asked < trials or running:
        while asked < trials and (task := search.suggest(f"t{asked}")) is not None:
            actor = idle.pop() if idle else Here(task)
            actor.reset_config(task)
            trial = Running(trial_id=f"t{asked}", config=task, last_result=None, actor=actor)
            asked += 1
            scheduler.on_trial_add(None, trial)
            memory.on_trial_start(0, [], trial)
            running.append(trial)
        trial = running[random.integers(len(running))]
        result = trial.actor.step()
        result["training_iteration"] = result["epoch"] + 1
        decision = TrialScheduler.STOP if result["done"] else scheduler.on_trial_result(None, trial, result)
        memory.on_trial_result(0, [], trial, result)
        trial.last_result = result
        if decision == TrialScheduler.STOP:
            running.remove(trial)
            idle.append(trial.actor)
            scheduler.on_trial_complete(None, trial, result)
            search.on_trial_complete(trial.trial_id, result)
            memory.on_trial_complete(0, [], trial)
