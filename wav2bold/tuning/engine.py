"""Ray Tune as both `sweep` and `refine` use it: warm actors, and every trial remembered in MLflow."""

import logging
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import SearchAlgorithm, Searcher

from wav2bold.config import Configuration, Study
from wav2bold.progress import Progress
from wav2bold.tuning.controller import our_controller
from wav2bold.tuning.listed import Listed
from wav2bold.tuning.outbox import Outbox
from wav2bold.tuning.remembered import OF_SUBJECT, REASON, STOPPED
from wav2bold.tuning.subset_scores import SUBSET
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.trial import METRIC, WarmTrial

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
OURS = re.compile(r"^(RuntimeError|wav2bold\.errors\.\w+): ")
"""What stands before a user's mistake: its sentence needs no class. Any other error is told with it."""

METRICS = ("score", "white_score", "loss", METRIC, "seconds", "drift", "subject_score")
"""What of a report is remembered, as far as it is there and a number."""


@dataclass(frozen=True)
class Outcome:
    """How one trial ended. run_id: in MLflow.  best_score: on validation.  reason: of a failure.

    is_whole: whether its score is of all its subjects.
    """

    number: int
    run_id: str
    best_score: float
    epochs: int
    failed: bool
    reason: str
    is_whole: bool = True


class Memory(tune.Callback):
    """Writes every trial to MLflow as it happens, and tells how far the whole is.

    ended: trials that an earlier driver finished.  left: MLflow runs, by number, of those that it didn't.
    """

    def __init__(
        self,
        tracker: Tracker | Outbox,
        kind: str,
        parent: str,
        trials: int,
        progress: Progress,
        ended: Iterable[Outcome] = (),
        left: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self._tracker, self._kind, self._parent = tracker, kind, parent
        self._trials, self._progress = trials, progress
        self._run_ids: dict[str, str] = {}
        self._finished: dict[int, Outcome] = {outcome.number: outcome for outcome in ended}
        self._left = dict(left)
        self._open: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune saves its callbacks with the experiment; a database and a terminal can't be saved."""
        return {}

    @property
    def outcomes(self) -> list[Outcome]:
        """Trials that have ended, by number."""
        return sorted(self._finished.values(), key=lambda outcome: outcome.number)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has an actor: it becomes an MLflow run."""
        self._run_of(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch, or a subject, or that there will be none."""
        if result["failed"]:
            return
        metrics = {key: result[key] for key in METRICS if key in result}
        step, subject = f"epoch {result['epoch']}", result.get("subject")
        if subject is not None:
            metrics[f"{OF_SUBJECT}{subject}"] = result["subject_score"]
            step = f"{subject} ({result['epoch'] + 1} of {len(trial.config['task']['subjects'])})"
        self._tracker.metrics(self._run_ids[trial.trial_id], metrics | result["system"], result["epoch"])
        self._tell(f"{self._called(trial)}, {step}: r = {result['score']:.3f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has run all its epochs, was stopped early, or met a mistake of the user's."""
        result = trial.last_result
        if result["failed"]:
            self._fail(trial, result["failed"])
            return
        run_id = self._run_ids[trial.trial_id]
        self._tracker.tags(run_id, {STOPPED: str(not result["last"]).lower()})
        if result["note"]:
            self._tracker.tags(run_id, {"wav2bold.note": result["note"]})
        self._keep(run_id, trial.config["task"])
        whole = result.get("subject") is None or result["last"]
        number = trial.config["task"]["number"]
        self._end(trial, Outcome(number, run_id, result[METRIC], result["epoch"], False, "", whole))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial died and is tried again."""
        self._tell(f"{self._called(trial)} died, and is tried again: {_reason(trial)}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial died for good; the others go on."""
        self._fail(trial, _reason(trial))

    def close(self, status: str) -> None:
        """End what is still open, after an interruption."""
        for run_id in sorted(self._open):
            self._tracker.end(run_id, status)
        self._open.clear()

    def _run_of(self, trial: Any) -> str:
        """The trial's MLflow run, begun if it has none yet: a retry goes on in the same run."""
        if trial.trial_id not in self._run_ids:
            config = trial.config["task"]
            name = f"trial {config['number']:03d}" if self._kind == "trial" else self._called(trial)
            told, subset = ("trained_parameters", "reduce"), config.get("origin", {}).get(SUBSET)
            run_id = self._tracker.begin_trial(
                self._kind,
                name,
                self._parent,
                Configuration.model_validate(config["configuration"]),
                {"number": config["number"], "subjects": " ".join(config["subjects"])}
                | {key: config[key] for key in told if config.get(key) is not None}
                | ({} if subset is None else {"subset": subset["name"]}),
                self._left.pop(config["number"], None),
            )
            self._run_ids[trial.trial_id] = run_id
            self._open.add(run_id)
        return self._run_ids[trial.trial_id]

    def _called(self, trial: Any) -> str:
        """What a line calls it: trial 7, sub-001, attention-3/sub-001."""
        task = trial.config["task"]
        return f"trial {task['number']}" if self._kind == "trial" else str(task["name"])

    def _keep(self, run_id: str, task: Mapping[str, Any]) -> None:
        """Give MLflow the refined encoder, where one was asked for; of a subset's all but the weights.

        Those of 51 subsets of wav2vec2-base are 19 GB for each subject, and few are ever loaded.
        """
        if "out" not in task:
            return
        if SUBSET not in task["origin"]:
            self._tracker.artifact(run_id, Path(task["out"]), "encoder")
            return
        for path in sorted(Path(task["out"]).iterdir()):
            if path.suffix != ".safetensors":
                self._tracker.artifact(run_id, path, "encoder")

    def _fail(self, trial: Any, reason: str) -> None:
        run_id = self._run_of(trial)
        self._tracker.tags(run_id, {REASON: reason})
        last = trial.last_result or {}
        best, epoch = float(last.get(METRIC, math.nan)), int(last.get("epoch", -1))
        self._end(trial, Outcome(trial.config["task"]["number"], run_id, best, epoch, True, reason))

    def _end(self, trial: Any, outcome: Outcome) -> None:
        self._finished[outcome.number] = outcome
        self._tracker.end(outcome.run_id, "FAILED" if outcome.failed else "FINISHED")
        self._open.discard(outcome.run_id)
        self._tell(f"{self._called(trial)} " + ("failed" if outcome.failed else "done"))

    def _tell(self, what: str) -> None:
        self._progress(what, len(self._finished), self._trials)


def run_trials(
    study: Study,
    memory: Memory,
    name: str,
    trials: int,
    *,
    search: Searcher | SearchAlgorithm | None = None,
    scheduler: TrialScheduler | None = None,
    tasks: Sequence[Mapping[str, Any]] = (),
) -> list[Outcome]:
    """Run trials in warm actors until the search has no more; outcomes by number.

    Either `search` proposes {"task": ...}, as `WarmTrial` takes it, or `tasks` lists them all.
    An interruption ends the open MLflow runs as KILLED and goes on up.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # MLflow has it all
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends now, not after the epoch
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    options = study.search
    # Else one trial of a search stands in line at a time, and an autoscaler adds machines for those in line
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(options.parallel)
    trainable = tune.with_parameters(
        WarmTrial,
        study=study.model_dump(mode="json", exclude={"search": {"storage"}}),  # the driver's alone
        cpus=options.cpus_per_trial,
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, _held(study)),
        tune_config=tune.TuneConfig(
            search_alg=search or Listed(tasks, options.parallel),
            scheduler=scheduler or FIFOScheduler(),
            num_samples=trials,
            reuse_actors=True,
            max_concurrent_trials=None,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str((study.results / "ray").resolve()),
            callbacks=[memory],
            failure_config=tune.FailureConfig(max_failures=options.max_failures),
            verbose=0,
        ),
    )
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # a failed trial's traceback; its reason is told and remembered
    try:
        with our_controller():
            tuner.fit()
    except BaseException:
        memory.close("KILLED")
        raise
    finally:
        logger.setLevel(level)
    return memory.outcomes


def _held(study: Study) -> dict[str, float] | tune.PlacementGroupFactory:
    """What a trial's own process holds of the cluster: nothing that its workers need, where it has some."""
    options = study.search
    if options.workers > 1:
        return tune.PlacementGroupFactory([{"memory": 1}])  # a byte: Tune knows no trial that holds nothing
    return {"cpu": options.cpus_per_trial, "gpu": options.gpus_per_trial}


def _reason(trial: Any) -> str:
    """What went wrong in a trial, on one line."""
    # Trial.get_error() looks where the file will be copied to later
    written = Path(trial.error_file or "")
    text = COLOURS.sub("", written.read_text(errors="replace")) if written.is_file() else ""
    lines = text.strip().splitlines()
    # Ray heads each failure with a line of its own. What matters is a traceback's end, or else the beginning
    traceback = any(line.startswith('  File "') for line in lines)
    why = [line for line in lines if line.startswith("The actor ")]
    if lines and not traceback:
        reason = (why or lines[1:] or lines)[-1 if why else 0]
    else:
        reason = lines[-1] if lines else "lost without a word"
    return OURS.sub("", reason).strip()[:500]
