"""What a sweep adds to each trial: everything between two trials' own work, in a warm actor.

Trials that do next to nothing (stage 1 from stored features) run one after another through the same
engine as a real sweep, MLflow included. The time from the end of the first to the end of the last,
less what the trials themselves took, divided by their number, is the overhead.
"""

import sys
import tempfile
import time
from pathlib import Path

from _figures import show

from wav2bold import steps
from wav2bold.cluster.connect import connected
from wav2bold.config import Simulation, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.tuning.engine import Memory, Outcome, run_trials
from wav2bold.tuning.tracking import Tracker

TRIALS = 20
REPEATS = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as name, connected(cpus=2):
        folder = Path(name)
        steps.simulate(folder / "recordings", Simulation(subjects=1, stories=3, minutes=1))
        steps.prepare(folder / "recordings", folder / "shards")
        study = Study.load(folder / "study.yaml")
        search = study.search.model_copy(update={"parallel": 1})
        study = study.model_copy(update={"search": search})
        overheads = [measured(study, repeat) for repeat in range(REPEATS + 1)][
            1:
        ]  # the first fills the store
    show("sweep_overhead_per_trial_s", overheads, "s")


def measured(study: Study, repeat: int) -> float:
    """Seconds per trial beyond the trials' own, over one sweep of tiny trials."""
    tracker = Tracker(study)
    parent = tracker.begin("sweep", f"overhead {repeat}", study, open_shards(study.shards).card)
    ends: list[float] = []

    def watch(what: str, _done: int, _total: int) -> None:
        if what.endswith("done"):
            ends.append(time.monotonic())

    configuration = study.configuration.model_copy(update={"unfrozen": {}, "history": 2})
    tasks = [
        {
            "number": number,
            "configuration": configuration.model_dump(mode="json"),
            "subjects": ["sub-001"],
        }
        for number in range(TRIALS)
    ]
    memory = Memory(tracker, "trial", parent, TRIALS, watch)
    outcomes: list[Outcome] = run_trials(
        study, memory, f"overhead-{repeat}-{parent[:6]}", TRIALS, tasks=tasks
    )
    tracker.end(parent)
    own = [trial.seconds for trial in tracker.trials(parent)][1:]
    print(f"  {len(outcomes)} trials, own work {sum(own):.2f} s", file=sys.stderr)
    return (ends[-1] - ends[0] - sum(own)) / len(own)


if __name__ == "__main__":
    main()
