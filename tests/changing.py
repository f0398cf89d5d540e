"""Sweeps whose trials tell where they run and can be held, on nodes that come and go.

`python changing.py FOLDER` is one on a cluster of this machine: a node is added, removed under a running
trial, and removed under a warm actor that waits for its next trial. It prints as JSON what was seen.
`python changing.py FOLDER ADDRESS TRIALS [--resume]` is one on a cluster of three cores, all its trials held.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from drivers import small_study

from wav2bold.cluster.connect import QUIET
from wav2bold.config import Study
from wav2bold.tuning import engine
from wav2bold.tuning.sweep import sweep

HOLDS_S = 300.0
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


def study_of(folder: Path, **search: Any) -> Study:
    """Trials of three epochs, none of them stopped early, and none forgiven a fault of its own."""
    return small_study(folder, **{"stopping": "none", "max_failures": 0, **search})


def watched(folder: Path, held: tuple[int, ...]) -> None:
    """Let trials of this process's sweeps leave a file in `folder` for each try; see `tries`.

    held: trials that wait after their first epoch until they are let go.
    """

    class Watched(engine.WarmTrial):
        def step(self) -> dict[str, Any]:
            import ray

            number, begins = self._task["number"], self._epochs is None
            if begins:
                node, address = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()
                (folder / f"{number}-{node}-{address}-{uuid4()}").touch()
            until = time.monotonic() + HOLDS_S
            while number in held and not begins and not (folder / f"go-{number}").exists():
                assert time.monotonic() < until, f"nobody let trial {number} go"
                time.sleep(0.05)
            return super().step()

    folder.mkdir(exist_ok=True)
    engine.WarmTrial = Watched


def let_go(folder: Path, number: int) -> None:
    """Let a held trial go on."""
    (folder / f"go-{number}").touch()


def tries(folder: Path, by: str = "node") -> list[tuple[int, str]]:
    """Number of the trial and where it ran, of each try so far, oldest first. by: node, or address."""
    paths = sorted((path for path in folder.iterdir() if path.name[0].isdigit()), key=os.path.getctime)
    words = [path.name.split("-") for path in paths]
    return [(int(number), node if by == "node" else address) for number, node, address, *_ in words]


def on_three_cores(folder: Path, address: str, trials: int, *, resume: bool) -> None:
    watched(folder / "held", tuple(range(trials)))
    study = study_of(folder, trials=trials, parallel=3)
    sweep(study, address, progress=lambda what, *_: print(what, flush=True), resume=resume)


def main(folder: Path) -> None:
    import ray
    from ray.cluster_utils import Cluster

    os.environ.update(QUIET)
    held = folder / "held"
    watched(held, (0, 1, 2, 3))
    study = study_of(folder, trials=6, parallel=2)
    cluster = Cluster(
        initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False}
    )
    nodes = {node.node_id: node for node in [cluster.add_node(**NODE)]}
    seen: dict[str, Any] = {"told": []}

    def add() -> None:
        node = cluster.add_node(**NODE)
        nodes[node.node_id] = node
        seen.setdefault("added", node.node_id)
        seen.setdefault("added_at", time.monotonic())

    def remove_under(number: int) -> None:
        (node,) = (where for which, where in tries(held) if which == number)
        cluster.remove_node(nodes.pop(node), allow_graceful=False)

    def change(what: str, *_: int) -> None:
        seen["told"].append(what)
        if what.startswith("trial 0, epoch 0"):
            add()
        elif what.startswith("trial 1, epoch 0") and "used_after_s" not in seen:
            seen["used_after_s"] = time.monotonic() - seen["added_at"]
            remove_under(1)
            add()
            let_go(held, 0)
            let_go(held, 1)
        elif what.startswith("trial 3, epoch 0"):
            let_go(held, 2)  # on the other node
        elif what == "trial 2 done":
            remove_under(2)
            let_go(held, 3)

    try:
        outcomes = sweep(study, cluster.address, progress=change).outcomes
        seen["scores"] = [outcome.best_score for outcome in outcomes]
    finally:
        print(json.dumps({**seen, "tries": tries(held)}), flush=True)
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    given = sys.argv[1:]
    if len(given) == 1:
        main(Path(given[0]))
    else:
        on_three_cores(Path(given[0]), given[1], int(given[2]), resume="--resume" in given)
