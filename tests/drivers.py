"""A sweep's driver in a process of its own, which can be killed at any statement it sends to a database."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from listeners import on_disk, save_small_wav2vec2, speech, volumes

from wav2bold.config import Configuration, Search, Split, Study

if TYPE_CHECKING:
    from wav2bold.tuning.sweep import Swept

STORIES = ("bakery", "ferry", "library", "lighthouse")
SECONDS, TR_S = 24.0, 1.0
TAKES_S = 120
Kills = Mapping[int, float]
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


@dataclass
class Disturber:
    """A sweep's progress, which sends signals as it is told something for the n-th time, counted from 1.

    signals: by n, the process and the signal; None: its own process.
    """

    signals: dict[int, tuple[int | None, int]]
    told: int = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        self.told += 1
        if self.told in self.signals:
            process, number = self.signals[self.told]
            os.kill(process or os.getpid(), number)


def drive(
    study: Study, kill_at: int | None = None, server: str | None = None, **options: Any
) -> tuple[int, int]:
    """Sweep in another process, trials in that same process; its exit code and how many statements it sent.

    kill_at: the statement, counted from 1, after which it is killed; the count is then that.
    server: of MLflow; None remembers in a file.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    sent = context.Value("i", 0)
    process = context.Process(target=_drive, args=(study, sent, kill_at, server, options))
    process.start()
    process.join(TAKES_S)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode is not None, f"a sweep of a few seconds did not end within {TAKES_S} s"
    return process.exitcode, sent.value


def _drive(study: Study, sent: Any, kill_at: int | None, server: str | None, options: dict[str, Any]) -> None:
    from sqlalchemy import Engine, event

    from wav2bold.errors import TrackingError

    if server is not None:
        os.environ["MLFLOW_TRACKING_URI"] = server

    def count(*anything: object) -> None:
        sent.value += 1
        if sent.value == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", count)
    try:
        sweep_here(study, **options)
    except TrackingError as error:
        if "remembers no sweep" not in str(error):  # killed before there was anything to go on with
            raise
        sweep_here(study)


def sweep_here(study: Study, kills: Kills = MappingProxyType({}), **options: Any) -> "Swept":
    """Sweep in this process: its trials are no actors, and there is no cluster.

    kills: by which call of an actor, counted from 0, how many seconds into it the actor is killed; each
    actor is then a process.
    """
    from wav2bold.tuning import sweep as step

    with pytest.MonkeyPatch.context() as patch:
        for name, stand_in in stand_ins(kills).items():
            patch.setattr(step, name, stand_in)
        return step.sweep(study, **options)


def stand_ins(kills: Kills = MappingProxyType({})) -> dict[str, Any]:
    """What a sweep without a cluster has in place of names of `wav2bold.tuning.sweep`."""
    from wav2bold.cluster.connect import Resources
    from wav2bold.cluster.shape import this_machine

    return {
        "connected": lambda *_: nullcontext(Resources(2, 0)),
        "connected_shape": this_machine,
        "refuse_on_this_cluster": lambda *_: None,
        "check_storage": lambda *_: None,
        "run_trials": partial(_side_by_side, kills=dict(kills)),
    }


class Actor:
    """A warm trial in a process of its own, as Ray's actors are; ActorDied tells that it was killed."""

    def __init__(self, study: Study, task: dict[str, Any], kills: dict[int, float], calls: Iterator[int]):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(HEAVY)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_act, args=(study, task, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._kills, self._calls = kills, calls

    def _call(self, name: str, *given: Any) -> Any:
        moment = self._kills.pop(next(self._calls), None)
        try:
            self._pipe.send((name, given))
            if moment is not None:
                time.sleep(moment)
                self._process.kill()
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            raise ActorDied from None

    def reset_config(self, task: dict[str, Any]) -> None:
        self._call("reset_config", task)

    def step(self) -> dict[str, Any]:
        return dict(self._call("step"))


class ActorDied(Exception):
    """An actor's process was killed."""


def _act(study: Study, task: dict[str, Any], pipe: Any) -> None:
    trial = _warm_trial(study, task)
    while True:
        name, given = pipe.recv()
        pipe.send(getattr(trial, name)(*given))


def _warm_trial(study: Study, task: dict[str, Any]) -> Any:
    from wav2bold.tuning.trial import WarmTrial

    class Here(WarmTrial):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config, study.model_dump(mode="json"))

    return Here(task)


@dataclass(eq=False)
class Running:
    """As much of Ray's `Trial` as ours look at."""

    trial_id: str
    config: dict[str, Any]
    last_result: dict[str, Any] | None = None
    actor: Any = None
    error_file: None = None


def _side_by_side(
    study: Study,
    memory: Any,
    name: str,
    trials: int,
    *,
    search: Any,
    scheduler: Any,
    kills: dict[int, float],
) -> list[Any]:
    """Trials as Ray Tune runs them, without Ray: as many at once as are proposed, whichever is faster.

    Who is told of what, and in which order, is as in Ray 2.60's `TuneController`.
    """
    from ray.tune.schedulers import TrialScheduler

    calls = count()
    begin = partial(Actor, kills=kills, calls=calls) if kills else _warm_trial
    random = np.random.default_rng()  # speed is chance
    running: list[Running] = []
    idle: list[Any] = []
    asked = 0
    while asked < trials or running:
        while asked < trials and (task := search.suggest(f"t{asked}")) is not None:
            trial = Running(f"t{asked}", task)
            asked += 1
            scheduler.on_trial_add(None, trial)
            running.append(trial)
        trial = running[random.integers(len(running))]
        try:
            if trial.actor is None:
                trial.actor = idle.pop() if idle else begin(study, trial.config)
                memory.on_trial_start(0, [], trial)
                trial.actor.reset_config(trial.config)
            result = trial.actor.step()
        except ActorDied:
            trial.actor = None
            scheduler.on_trial_error(None, trial)
            scheduler.on_trial_add(None, trial)
            memory.on_trial_recover(0, [], trial)
            continue
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
    assert not kills, f"the sweep ended before {kills}"
    return list(memory.outcomes)
