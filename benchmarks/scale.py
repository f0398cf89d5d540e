"""How a sweep's efficiency falls as GPUs are added, and what stops it first: by a model, tested here.

A sweep of small trials is measured with one worker and with two, in turn. What its trials took, and what
driver and MLflow took beside them, is then replayed by a scheduler model (`_scheduler.py`) on 1 to 1,000
GPUs, for 345 people who are each searched by themselves, with trials stretched to a minute: at 1,094
windows/s of an H100 with all layers unfrozen (RESULTS.md), 20 epochs of an hour of volumes of 1.5 s take
44 s; stage 1 comes before.

scale_model_error: the larger of the model's relative errors in the time of a whole sweep, with one worker and
two.  scale_efficiency_*: work of all trials / (GPUs x time of the whole).  scale_first_bottleneck_gpus: how
many GPUs keep busy what saturates first. The rest, formulas included, goes to standard error.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _figures import show
from _scheduler import Bottleneck, Costs, Trial, bottlenecks, efficiency, makespan

from wav2bold import steps
from wav2bold.cluster.connect import connected
from wav2bold.config import Simulation, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.tuning.engine import Memory, run_trials
from wav2bold.tuning.tracking import Tracker

REPEATS, TRIALS = 5, 12
PEOPLE, EACH, MINUTE_S = 345, 20, 60.0
GPUS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DISK_BYTES_S, NETWORK_BYTES_S = 1.0e9, 1.25e9
"""Assumed, not measured: a file server that gives 1 GB/s to all, and a head on a network of 10 Gbit/s."""
TRIAL_BYTES = 3600 / 1.5 * (13 * 768 * 6 + 80_000) * 2
"""Assumed: each trial reads an hour of volumes anew, 80,000 targets and features of all hidden states of
wav2vec2-base for 6 TRs, in half precision: 0.7 GB. A warm worker often has them in memory already."""


@dataclass(frozen=True)
class Measured:
    """One sweep. seconds: of the whole.  trials: their work.  starts, driver, mlflow: as in `Costs`."""

    seconds: float
    trials: tuple[Trial, ...]
    starts: float
    driver: float
    mlflow: float


def main() -> None:
    with tempfile.TemporaryDirectory() as name, connected(cpus=2):
        folder = Path(name)
        steps.simulate(folder / "recordings", Simulation(subjects=1, stories=3, minutes=2))
        steps.prepare(folder / "recordings", folder / "shards")
        study = Study.load(folder / "study.yaml")
        measured(study, 1)  # fills the activation store
        one, two = [], []
        for _ in range(REPEATS):
            one.append(measured(study, 1))
            two.append(measured(study, 2))
        told = len(study.model_dump_json())
    costs = Costs(
        starts=statistics.median(each.starts for each in one),
        driver=statistics.median(each.driver for each in one),
        mlflow=statistics.median(each.mlflow for each in one),
        disk=0.0,  # on this machine it is in the trials' own time
        objects=told / NETWORK_BYTES_S,
    )
    show("scale_model_error", errors(one, two, costs), "share")
    trials = replayed([trial for each in one for trial in each.trials])
    large = Costs(costs.starts, costs.driver, costs.mlflow, TRIAL_BYTES / DISK_BYTES_S, costs.objects)
    for gpus in GPUS:
        share = efficiency(trials, gpus, large)
        print(f"  {gpus:5d} GPUs: efficiency {share:.3f}", file=sys.stderr)
        if gpus in (10, 100, 1000):
            show(f"scale_efficiency_{gpus}_gpus", [share], "share")
    found = bottlenecks(trials, large)
    tell(found)
    show("scale_first_bottleneck_gpus", [found[0].gpus], "GPUs")


def measured(study: Study, workers: int) -> Measured:
    """A sweep of trials of several lengths by warm workers of one core each."""
    search = study.search.model_copy(update={"parallel": workers})
    study = study.model_copy(update={"search": search})
    tracker = Clocked(study)
    begun = time.monotonic()
    parent = tracker.begin("sweep", f"scale {begun}", study, open_shards(study.shards).card)
    tracker.spent = 0.0
    tasks = [
        {
            "number": number,
            "configuration": study.configuration.model_copy(
                update={"history": 2 + number % 3, "epochs": 2 + number % 4}
            ).model_dump(mode="json"),
            "subjects": ["sub-001"],
        }
        for number in range(TRIALS)
    ]
    moments: list[tuple[float, float]] = []
    memory = Watched(
        tracker, "trial", parent, TRIALS, lambda *_: moments.append((time.monotonic(), tracker.spent))
    )
    begun = time.monotonic()
    run_trials(study, memory, f"scale-{parent[:8]}", TRIALS, tasks=tasks)
    seconds = time.monotonic() - begun
    tracker.end(parent)
    trials = tuple(Trial(sum(own), len(own)) for _, own in sorted(memory.worked.items()))
    work = sum(trial.work for trial in trials)
    (first, spent), (last, all_spent) = moments[0], moments[-1]
    words = sum(trial.reports + 2 for trial in trials) - 2  # less the first trial's begin and first report
    mlflow = (all_spent - spent) / words
    beside = last - first - (work - memory.first)
    print(f"  {workers} workers: {seconds:.1f} s, trials {work:.1f} s", file=sys.stderr)
    return Measured(seconds, trials, first - begun - memory.first, max(beside / words - mlflow, 0.0), mlflow)


class Watched(Memory):
    """Notes how long each step of a trial took in its own process, by its number. first: the very first."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.worked: dict[int, list[float]] = {}
        self.first = 0.0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.first = self.first or result["time_this_iter_s"]
        self.worked.setdefault(trial.config["task"]["number"], []).append(result["time_this_iter_s"])
        super().on_trial_result(iteration, trials, trial, result, **info)


class Clocked(Tracker):
    """Counts the seconds that MLflow takes while trials run."""

    spent = 0.0

    def begin_trial(self, *given: Any) -> str:
        return self._timed(super().begin_trial, *given)

    def metrics(self, *given: Any) -> None:
        self._timed(super().metrics, *given)

    def tags(self, *given: Any) -> None:
        self._timed(super().tags, *given)

    def end(self, *given: Any) -> None:
        self._timed(super().end, *given)

    def _timed(self, call: Callable[..., Any], *given: Any) -> Any:
        begun = time.monotonic()
        try:
            return call(*given)
        finally:
            self.spent += time.monotonic() - begun


def errors(one: Sequence[Measured], two: Sequence[Measured], costs: Costs) -> list[float]:
    """The model's larger relative error of each pair of sweeps; trials are those of one worker's sweep."""
    found = []
    for alone, together in zip(one, two, strict=True):
        parts = [
            abs(makespan(alone.trials, workers, costs) / each.seconds - 1)
            for workers, each in ((1, alone), (2, together))
        ]
        print(f"  model against measured: {parts[0]:.3f} with one worker, {parts[1]:.3f}", file=sys.stderr)
        found.append(max(parts))
    return found


def replayed(trials: Sequence[Trial]) -> list[Trial]:
    """The measured trials again and again, in the same proportions, until everybody has been searched."""
    stretch = MINUTE_S / statistics.fmean(trial.work for trial in trials)
    return [
        Trial(trials[number % len(trials)].work * stretch, trials[number % len(trials)].reports)
        for number in range(PEOPLE * EACH)
    ]


def tell(found: Sequence[Bottleneck]) -> None:
    for each in found:
        print(f"  {each.name} keeps {each.gpus:.0f} GPUs busy: {each.formula}", file=sys.stderr)
    print(f"  first bottleneck: {found[0].name}", file=sys.stderr)


if __name__ == "__main__":
    main()
