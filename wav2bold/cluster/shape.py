"""What a cluster has to offer: machines of several kinds, as they are or as far as it may grow."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray

from wav2bold.errors import ClusterError
from wav2bold.options import read_yaml

LOCAL = "local.cluster.node"
"""What Ray's launcher calls every machine of an on-premises cluster."""


@dataclass(frozen=True)
class Machines:
    """Machines of one kind. cpus, gpus: of each.  memory: bytes of each, None if nothing tells."""

    kind: str
    count: int
    cpus: float
    gpus: float
    memory: float | None


@dataclass(frozen=True)
class Shape:
    """A cluster. told_by: where its shape is from, in words."""

    told_by: str
    machines: tuple[Machines, ...]

    @property
    def cpus(self) -> float:
        """Processor cores in all."""
        return sum(each.count * each.cpus for each in self.machines)

    @property
    def gpus(self) -> float:
        """GPUs in all."""
        return sum(each.count * each.gpus for each in self.machines)

    @property
    def size(self) -> int:
        """How many machines."""
        return sum(each.count for each in self.machines)


def this_machine(cpus: int | None = None) -> Shape:
    """What a Ray that `connect` starts here would have. cpus: as `connect` takes them."""
    from ray._private.accelerators import get_accelerator_manager_for_resource
    from ray._private.utils import get_num_cpus

    manager = get_accelerator_manager_for_resource("GPU")
    gpus = manager.get_current_node_num_accelerators() if manager is not None else 0
    memory = float(psutil.virtual_memory().total)
    return Shape("this machine", (Machines("here", 1, float(cpus or get_num_cpus()), float(gpus), memory),))


def connected_shape() -> Shape:
    """The cluster that we are connected to, and what its autoscaler, if it has one, may add to it."""
    alive = [_alive(node) for node in ray.nodes() if node["Alive"]]
    return Shape("the running cluster", (*alive, *_growth(alive)))


def free_now() -> tuple[float, float]:
    """Cores and GPUs of the cluster that nobody holds."""
    free = ray.available_resources()
    return float(free.get("CPU", 0)), float(free.get("GPU", 0))


def _alive(node: Mapping[str, Any]) -> Machines:
    has = node["Resources"]
    # What Ray calls memory is what it leaves to tasks; the object store is the rest, and empty in our work
    memory = has.get("memory", 0) + has.get("object_store_memory", 0)
    return Machines(
        str(node["NodeManagerHostname"]),
        1,
        float(has.get("CPU", 0)),
        float(has.get("GPU", 0)),
        float(memory) or None,
    )


def _growth(alive: Sequence[Machines]) -> Iterator[Machines]:
    """Machines that the autoscaler says it may add, beside those that look like them and are there."""
    from ray._private.state import state

    config = state.get_cluster_config()
    for group in config.node_group_configs if config is not None else ():
        cpus, gpus = (float(group.resources.get(name, 0)) for name in ("CPU", "GPU"))
        there = sum(one.cpus == cpus and one.gpus == gpus for one in alive)
        more = group.max_count - there if group.max_count >= 0 else there + 1000  # -1: without end
        if more > 0:
            memory = float(group.resources.get("memory", 0)) or None
            yield Machines(group.name, more, cpus, gpus, memory)


def shape_in(path: Path) -> Shape:
    """The cluster that `ray up` would start from a file, grown as far as its autoscaler may.

    What a machine has is what its node type's `resources` say; on-premises, where there are no types, what
    `ray start` is told by --num-cpus, --num-gpus and --memory.
    Raises ClusterError for a file that Ray's launcher refuses, or that doesn't tell.
    """
    config = launcher_file(path)
    head, types = config["head_node_type"], config["available_node_types"]
    if set(types) == {LOCAL}:
        machines = list(_on_premises(path, config))
    else:
        limit = int(config["max_workers"])
        machines = []
        for kind, told in types.items():
            workers = min(int(told.get("max_workers", 0)), limit)
            if kind == head:
                machines.append(_typed(path, kind, told, 1))
                workers = 0 if told.get("max_workers") is None else workers
            if workers:
                machines.append(_typed(path, kind, told, workers))
        machines = _within(machines, limit)
    return Shape(f"{path}, grown as far as it may", tuple(machines))


def launcher_file(path: Path) -> dict[str, Any]:
    """A cluster-launcher file as `ray up` prepares it. Raises ClusterError if Ray refuses it."""
    import click
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            prepared: dict[str, Any] = prepare_config(read_yaml(path))
            validate_config(prepared)
    except ValidationError as error:
        where = ".".join(map(str, error.absolute_path))
        raise ClusterError(
            f"{path}: {where + ': ' if where else ''}{error.message}", "`ray up` would refuse it, too"
        ) from None
    except (
        click.ClickException,
        KeyError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split()) or " ".join(said.getvalue().split()) or type(error).__name__
        raise ClusterError(
            f"{path}: Ray's cluster launcher doesn't take it ({reason})", "compare it with ray_config.yaml"
        ) from None
    return prepared


def _on_premises(path: Path, config: Mapping[str, Any]) -> Iterator[Machines]:
    told = config["available_node_types"][LOCAL]
    for kind, count, key in (
        ("head", 1, "head_start_ray_commands"),
        ("worker", int(told["max_workers"]), "worker_start_ray_commands"),
    ):
        options = _started_with(config[key])
        if count and "num-cpus" not in options:
            raise ClusterError(
                f"{path}: doesn't tell how many cores a {kind} has",
                f"write --num-cpus=N and --num-gpus=N into its {key}, or give --address of a running cluster",
            )
        if count:
            memory = options.get("memory")
            yield Machines(kind, count, options["num-cpus"], options.get("num-gpus", 0.0), memory)


def _started_with(commands: Sequence[str]) -> dict[str, float]:
    """Numbers that `ray start` is given as options."""
    options = re.compile(r"--(num-cpus|num-gpus|memory)[= ](\d+(?:\.\d+)?)")
    return {name: float(value) for command in commands for name, value in options.findall(command)}


def _typed(path: Path, kind: str, told: Mapping[str, Any], count: int) -> Machines:
    has = told.get("resources") or {}
    if "CPU" not in has:
        raise ClusterError(
            f"{path}: doesn't tell how many cores a {kind} has",
            f"write `resources: {{CPU: N, GPU: N, memory: BYTES}}` into available_node_types.{kind}",
        )
    memory = has.get("memory")
    return Machines(
        kind, count, float(has["CPU"]), float(has.get("GPU", 0)), None if memory is None else float(memory)
    )


def _within(machines: Sequence[Machines], workers: int) -> list[Machines]:
    """The head and, of the others, as many as the launcher's own max_workers lets there be: largest first."""
    head, *others = machines
    kept = [head]
    for one in sorted(others, key=lambda one: (one.gpus, one.cpus), reverse=True):
        count = min(one.count, workers)
        workers -= count
        if count:
            kept.append(Machines(one.kind, count, one.cpus, one.gpus, one.memory))
    return kept
