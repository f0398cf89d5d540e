"""What it costs to refine for many people: 345 of them, with next to nothing to do for each, as one job.

Each person's own work is stage 1 on two stories of half a minute, from stored features. Of what the driver
does (schedule, remember in MLflow, tell) the processor time and the memory of a person must not grow with how
many came before. `python benchmarks/fanout.py 60` takes fewer.
"""

import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
from _figures import show

from wav2bold import steps
from wav2bold.cluster.connect import connected
from wav2bold.config import Simulation, Study
from wav2bold.datasets.shards import CARD_NAME, open_shards, run_path, targets_path

PEOPLE = int(sys.argv[1]) if len(sys.argv) > 1 else 345
"""As many as OpenNeuro's ds002345 has."""
PART = max(PEOPLE // 7, 2)
"""People at the beginning and at the end, that are compared. The first few also start actors."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name, connected(cpus=2):
        study = crowd(Path(name))
        driver = psutil.Process()
        ends: list[tuple[float, float]] = []

        def watch(what: str, _done: int, _total: int) -> None:
            if what.endswith(" done"):
                ends.append((time.process_time(), driver.memory_info().rss))

        before = time.monotonic()
        done = steps.refine(study, progress=watch)
        took = time.monotonic() - before
    assert len(done.done) == len(ends) == PEOPLE
    (begun, small), (early, _) = ends[4], ends[4 + PART]
    (late, _), (end, large) = ends[-1 - PART], ends[-1]
    show("fanout_s_per_person", [took / PEOPLE], "s")
    show("fanout_driver_s_per_person", [(end - begun) / (PEOPLE - 5)], "s")
    show("fanout_driver_cost_growth", [(end - late) / (early - begun)], "x")
    show("fanout_driver_memory_growth", [large / small], "x")


def crowd(folder: Path) -> Study:
    """A study of so many people, who all had the same scan."""
    small = Simulation(subjects=1, stories=3, minutes=0.5, hearing_targets=4, silent_targets=0)
    steps.simulate(folder / "recordings", small)
    steps.prepare(folder / "recordings", folder / "shards")
    shards = open_shards(folder / "shards")
    ((one, card),) = shards.card.subjects.items()
    people = [f"sub-{number:03d}" for number in range(1, PEOPLE + 1)]
    for person in people:
        if person == one:
            continue
        for path in (targets_path(shards.root, person), run_path(shards.root, person, "", 1).parents[1]):
            source = Path(str(path).replace(person, one))
            shutil.copytree(source, path) if source.is_dir() else shutil.copyfile(source, path)
    told = replace(shards.card, subjects=dict.fromkeys(people, card))
    (folder / "shards" / CARD_NAME).write_text(told.to_json(), encoding="utf-8")
    study = Study.load(folder / "study.yaml")
    head = study.configuration.model_copy(update={"unfrozen": {}, "history": 2})
    return study.model_copy(update={"configuration": head})


if __name__ == "__main__":
    main()
