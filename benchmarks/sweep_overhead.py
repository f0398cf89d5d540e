"""What a sweep adds to each trial: everything between two trials' own work.

Trials that do next to nothing (stage 1 from stored features) run one after another. The time from the end of
the first to the end of the last, less what the trials themselves took, over their number, is the overhead.

sweep_overhead_per_trial_s: of our engine, warm actors and MLflow included.
sweep_overhead_ratio: that of a sweep as Ray documents it for trials with workers, a function that starts a
TorchTrainer for each trial, over ours: the same trials and scores in the same run. It writes to no MLflow.
driver_cost_growth: of 1,000 trials that TPE proposes, time per trial beyond the trial's own, of the last
hundred over the first hundred. driver_memory_gb: the driver's at their end, its libraries included.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import ray.train
from _figures import show
from ray import tune
from ray.train.torch import TorchTrainer

from wav2bold import steps
from wav2bold.cluster.connect import connected
from wav2bold.config import Configuration, IntRange, Simulation, Space, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.tuning.engine import Memory, run_trials
from wav2bold.tuning.sweep import sweep
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.workshop import Workshop

TRIALS, PEERS = 20, 4
REPEATS = 5
MANY, SHARE = 1000, 100

Ends = list[float]


def main() -> None:
    with tempfile.TemporaryDirectory() as name, connected(cpus=2):
        folder = Path(name)
        steps.simulate(folder / "recordings", Simulation(subjects=1, stories=3, minutes=1))
        steps.prepare(folder / "recordings", folder / "shards")
        study = Study.load(folder / "study.yaml")
        tiny = study.configuration.model_copy(update={"unfrozen": {}, "history": 2})
        search = study.search.model_copy(update={"parallel": 1})
        study = study.model_copy(update={"configuration": tiny, "search": search})
        warm_up, *ours = [ours_measured(study, repeat) for repeat in range(REPEATS + 1)]
        theirs = [theirs_measured(study, repeat, warm_up[1]) for repeat in range(REPEATS)]
        show("sweep_overhead_per_trial_s", [seconds for seconds, _ in ours], "s")
        show("sweep_overhead_ratio", [peer / own for peer, (own, _) in zip(theirs, ours, strict=True)], "x")
        growth, memory_gb = many(study)
        show("driver_cost_growth", [growth], "x")
        show("driver_memory_gb", [memory_gb], "GB")


def ours_measured(study: Study, repeat: int) -> tuple[float, float]:
    """Seconds per trial beyond the trials' own, over one sweep of our engine; and what they scored."""
    tracker = Tracker(study)
    parent = tracker.begin("sweep", f"overhead {repeat}", study, open_shards(study.shards).card)
    ends: Ends = []
    memory = Memory(tracker, "trial", parent, TRIALS, noting(ends))
    outcomes = run_trials(
        study, memory, f"overhead-{repeat}-{parent[:6]}", TRIALS, tasks=tasks(study, TRIALS)
    )
    tracker.end(parent)
    own = [trial.seconds for trial in tracker.trials(parent)]
    return beyond(ends, own), one(outcome.best_score for outcome in outcomes)


def theirs_measured(study: Study, repeat: int, score: float) -> float:
    """The same, with a TorchTrainer for each trial. score: what the trials must come to."""
    ends: Ends = []

    class Noting(tune.Callback):
        def on_trial_complete(self, *given: Any, **info: Any) -> None:
            ends.append(time.monotonic())

    def trial(config: dict[str, Any]) -> None:
        folder = Path(config["folder"])
        TorchTrainer(
            worker,
            train_loop_config=config,
            scaling_config=ray.train.ScalingConfig(num_workers=1),
            run_config=ray.train.RunConfig(
                storage_path=str(folder), name=f"trial-{config['task']['number']}"
            ),
        ).fit()
        tune.report(json.loads(told(config).read_text()))

    def worker(config: dict[str, Any]) -> None:
        (report,) = Workshop(study).reports(config["task"])
        # what is reported without a checkpoint is no part of what `fit` gives back
        told(config).write_text(json.dumps({"seconds": report.seconds, "score": report.score}))

    def told(config: dict[str, Any]) -> Path:
        return Path(config["folder"]) / f"{config['task']['number']}.json"

    found = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={
            "task": tune.grid_search(tasks(study, PEERS)),
            "folder": str(study.results / f"peer-{repeat}"),
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(
            storage_path=str(study.results / "peer"), name=str(repeat), callbacks=[Noting()], verbose=0
        ),
    ).fit()
    scores = [result.metrics["score"] for result in found if result.metrics]
    if len(scores) != PEERS or abs(one(scores) - score) > 1e-5:
        raise AssertionError(f"the two sweeps don't score alike: {scores}, {score}")
    return beyond(ends, [result.metrics["seconds"] for result in found if result.metrics])


def many(study: Study) -> tuple[float, float]:
    """How the driver's cost per trial grows over 1,000 trials, and the memory that it ends with, GB."""
    ends: Ends = []
    space = Space(history=IntRange(low=1, high=2), unfrozen=None)
    search = study.search.model_copy(update={"trials": MANY, "stopping": "none", "space": space})
    study = study.model_copy(update={"name": f"{study.name}-many", "search": search})
    found = sweep(study, progress=noting(ends))
    own = [trial.seconds for trial in Tracker(study).trials(found.run_id)]
    first, last = slice(0, SHARE + 1), slice(-SHARE - 1, None)
    costs = [beyond(ends[part], own[part]) for part in (first, last)]
    print(f"  of {MANY} trials, a driver's cost of {costs[0]:.4f} s, at last {costs[1]:.4f}", file=sys.stderr)
    return costs[1] / costs[0], psutil.Process(os.getpid()).memory_info().rss / 1e9


def tasks(study: Study, count: int) -> list[dict[str, Any]]:
    """The same small trial several times."""
    configuration: Configuration = study.configuration
    return [
        {"number": number, "configuration": configuration.model_dump(mode="json"), "subjects": ["sub-001"]}
        for number in range(count)
    ]


def noting(ends: Ends) -> Any:
    """A listener to progress that notes when each trial was done."""

    def note(what: str, _done: int, _total: int) -> None:
        if what.endswith("done"):
            ends.append(time.monotonic())

    return note


def beyond(ends: Sequence[float], own: Sequence[float]) -> float:
    """Seconds per trial after the first that were not its own work."""
    return (ends[-1] - ends[0] - sum(own[1:])) / (len(ends) - 1)


def one(scores: Any) -> float:
    """The score that all have."""
    first, *others = scores
    if any(abs(other - first) > 1e-6 for other in others):
        raise AssertionError(f"the same trial scored differently: {first}, {others}")
    return float(first)


if __name__ == "__main__":
    main()
