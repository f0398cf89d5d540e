"""`wav2bold report` on a large study: 1,000 trials, and 50 subjects each refined with two configurations.

Recordings are simulated (3 stories of 1 minute), the encoder is the simulation's small one, and the trials
in MLflow are made up: what the report costs lies in reading them, in its 100 tests and in the page. The
command is started as a user would, with its own Ray.

report_seconds: from the command to its end.  report_memory_gb: the most that it and all processes below it,
Ray and its workers too, hold at once (what they share counts once).  report_page_mb: of the file.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
from _figures import show

from wav2bold import steps
from wav2bold.config import Configuration, Simulation, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.tuning.remembered import STOPPED
from wav2bold.tuning.tracking import Tracker

TRIALS, SUBJECTS, EPOCHS, REPEATS = 1000, 50, 6, 3
WATCH_S = 0.5


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {
            "subjects": SUBJECTS,
            "stories": 3,
            "minutes": 1,
            "hearing_targets": 60,
            "silent_targets": 20,
        }
        steps.simulate(folder / "recordings", Simulation(**sizes))
        steps.prepare(folder / "recordings", folder / "shards")
        study = Study.load(folder / "study.yaml")
        quick = study.configuration.model_copy(update={"epochs": 1, "unfrozen": {"layer_norm": None}})
        for out in ("refined", "refined-paper"):
            steps.refine(study, quick, out=folder / out)
        remember(study)
        told(f"a study of {TRIALS} trials and {SUBJECTS} subjects is made")
        seconds, memory = zip(*(measured(folder) for _ in range(REPEATS)), strict=True)
        show("report_seconds", seconds, "s")
        show("report_memory_gb", memory, "GB")
        show("report_page_mb", [(folder / "report.html").stat().st_size / 1e6], "MB")


def remember(study: Study) -> None:
    """Put a sweep into MLflow whose trials vary what a search varies; a third is stopped early, some fail."""
    chance = random.Random(0)
    tracker = Tracker(study)
    sweep = tracker.begin("sweep", "sweep", study, open_shards(study.shards).card)
    for number in range(TRIALS):
        chosen = study.configuration if number == 0 else made_up(study.configuration, chance)
        about = {"number": number, "subjects": " ".join(f"sub-{one + 1:03d}" for one in range(SUBJECTS))}
        run = tracker.begin_trial("trial", f"trial {number}", sweep, chosen, about)
        stopped, failed = number % 3 == 2, number % 50 == 49
        for epoch in range(3 if stopped or failed else EPOCHS + 1):
            score = 0.3 - 0.01 * abs(chosen.history - 6) + 0.01 * epoch**0.5 + chance.gauss(0, 0.004)
            tracker.metrics(run, {"score": score, "seconds": 2.0 * epoch}, epoch)
        tracker.tags(
            run, {STOPPED: str(stopped).lower()} | ({"wav2bold.reason": "out of memory"} if failed else {})
        )
        tracker.end(run, "FAILED" if failed else "FINISHED")
    tracker.end(sweep)


def made_up(first: Configuration, chance: random.Random) -> Configuration:
    """A configuration somewhere in the space."""
    low = chance.randrange(2)
    kinds = [kind for kind in ("attention", "feed_forward", "layer_norm", "bias") if chance.random() < 0.5]
    return first.model_copy(
        update={
            "history": chance.randint(1, 10),
            "head_l2": 10 ** chance.uniform(-1, 1),
            "encoder_lr": 10 ** chance.uniform(-4, -1.5),
            "unfrozen": {kind: chance.choice([None, (low, 1)]) for kind in kinds},
        }
    )


def measured(folder: Path) -> tuple[float, float]:
    """Seconds, and GB, of one report."""
    code = "from wav2bold.cli import main; main()"
    told_to = ["report", str(folder / "study.yaml"), "--out", str(folder / "report.html")]
    command = [sys.executable, "-c", code, *told_to]
    begun, most = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=sys.stderr, cwd=folder) as process:
        while process.poll() is None:
            most = max(most, held_gb(family(process.pid)))
            time.sleep(WATCH_S)
        seconds = time.perf_counter() - begun
    if process.returncode != 0:
        raise RuntimeError(f"report ended with {process.returncode}")
    told(f"{seconds:.1f} s, {most:.2f} GB")
    return seconds, most


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; Ray's own daemons are children of its driver."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def held_gb(processes: Iterable[psutil.Process]) -> float:
    """What they hold together, each shared page once."""
    total = 0
    for one in processes:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total / 1e9


def told(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
