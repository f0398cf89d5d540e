"""What it costs a sweep to be remembered: the share of its time that its driver spends on telling MLflow.

Trials that report once a second run two at a time through the same engine as a real sweep, remembered in the
default store, an SQLite file. Counted is all time inside the outbox on the driver's thread, and the wait at
the end until everything is sent. What the sending thread computes meanwhile is told on standard error.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _figures import show

from wav2bold import steps
from wav2bold.cluster.connect import connected
from wav2bold.config import Simulation, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.tuning import engine
from wav2bold.tuning.engine import Memory, run_trials
from wav2bold.tuning.outbox import Outbox, outbox
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.trial import WarmTrial

TRIALS, PARALLEL, EPOCHS = 6, 2, 4
REPEATS = 5
REPORT_S = 1.0


class Paced(WarmTrial):
    """Reports once a second."""

    def step(self) -> dict[str, Any]:
        begun = time.monotonic()
        result = super().step()
        time.sleep(max(REPORT_S - (time.monotonic() - begun), 0))
        return result


def main() -> None:
    engine.WarmTrial = Paced
    with tempfile.TemporaryDirectory() as name, connected(cpus=2):
        folder = Path(name)
        steps.simulate(folder / "recordings", Simulation(subjects=1, stories=3, minutes=1))
        steps.prepare(folder / "recordings", folder / "shards")
        study = Study.load(folder / "study.yaml")
        search = study.search.model_copy(update={"parallel": PARALLEL})
        study = study.model_copy(update={"search": search})
        shares = [measured(study, repeat) for repeat in range(REPEATS + 1)][1:]  # the first loads all
    show("tracking_share", [100 * share for share in shares], "%")


def measured(study: Study, repeat: int) -> float:
    """Share of one sweep's time, between 0 and 1."""
    tracker = Tracker(study)
    parent = tracker.begin("sweep", f"tracking {repeat}", study, open_shards(study.shards).card)
    spent, computed = [0.0], [0.0]

    def timed(call: Callable[..., Any], clock: Callable[[], float], total: list[float]) -> Callable[..., Any]:
        def timing(*given: Any, **options: Any) -> Any:
            begun = clock()
            try:
                return call(*given, **options)
            finally:
                total[0] += clock() - begun

        return timing

    configuration = study.configuration.model_copy(update={"epochs": EPOCHS, "history": 2})
    tasks = [
        {"number": number, "configuration": configuration.model_dump(mode="json"), "subjects": ["sub-001"]}
        for number in range(TRIALS)
    ]
    begun = time.perf_counter()
    box: Outbox = outbox(tracker, study, parent, lambda *_: None)
    for name in ("begin_trial", "metrics", "tags", "end"):
        setattr(box, name, timed(getattr(box, name), time.perf_counter, spent))
    box._send = timed(box._send, time.thread_time, computed)  # noqa: SLF001
    with box:
        memory = Memory(box, "trial", parent, TRIALS, lambda *_: None)
        run_trials(study, memory, f"tracking-{repeat}-{parent[:6]}", TRIALS, tasks=tasks)
        box.end(parent)
        last = time.perf_counter()
    spent[0] += time.perf_counter() - last
    wall = time.perf_counter() - begun
    reports = sum(len(trial.scores) for trial in tracker.trials(parent))
    print(
        f"  {reports} reports in {wall:.1f} s: {1000 * spent[0]:.1f} ms on the driver's thread, "
        f"{1000 * computed[0]:.0f} ms computed by the other",
        file=sys.stderr,
    )
    return spent[0] / wall


if __name__ == "__main__":
    main()
