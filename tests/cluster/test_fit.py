"""What can never be placed is refused with the smallest change that fits; the rest is counted as Ray does."""

from pathlib import Path

import pytest
import yaml

from wav2bold.cluster.fit import (
    Demand,
    refuse_impossible,
    refuse_too_large,
    trials_at_once,
    what_limits,
)
from wav2bold.cluster.shape import Machines, Shape, shape_in
from wav2bold.config import Search
from wav2bold.errors import ClusterError, StudyError

ROOT = Path(__file__).parents[2]


def cluster(*machines: tuple[int, float, float, float | None]) -> Shape:
    """(count, cores, GPUs, GB) of each kind."""
    return Shape(
        "a test",
        tuple(
            Machines(f"kind{number}", count, cpus, gpus, None if gb is None else gb * 1e9)
            for number, (count, cpus, gpus, gb) in enumerate(machines)
        ),
    )


@pytest.mark.parametrize(
    ("shape", "demand", "trials"),
    [
        (cluster((1, 8, 0, None)), Demand(1, 3, 0), 2),
        (cluster((4, 8, 0, None)), Demand(1, 3, 0), 8),  # not 32 // 3: a worker never spans machines
        (cluster((4, 8, 0, None)), Demand(3, 3, 0), 2),  # workers of a trial do
        (cluster((1, 64, 2, None)), Demand(1, 1, 0.4), 4),  # two on each GPU, not 2 / 0.4
        (cluster((1, 4, 0, None), (2, 8, 4, None)), Demand(1, 4, 2), 4),
        (cluster((2, 64, 0, 16)), Demand(1, 1, 0, 5e9), 6),
        (cluster((2, 64, 0, None)), Demand(1, 32, 0, 5e9), 4),  # nothing tells of memory
        (cluster((1, 1, 0, None)), Demand(1, 0.1, 0), 10),
    ],
)
def test_trials_are_counted_machine_by_machine(shape: Shape, demand: Demand, trials: int) -> None:
    assert trials_at_once(shape, demand) == trials


@pytest.mark.parametrize(
    ("shape", "search", "said"),
    [
        (
            cluster((1, 2, 0, None)),
            {"cpus_per_trial": 8},
            "cpus_per_trial: 8 is more than the cluster's 2; .* 2",
        ),
        (
            cluster((4, 2, 0, None)),
            {"cpus_per_trial": 8},
            "any machine of the cluster, 2; the nearest .* is 2",
        ),
        (
            cluster((1, 2, 0, None)),
            {"gpus_per_trial": 1},
            "gpus_per_trial: 1 is more than the cluster's 0; .* 0",
        ),
        (cluster((1, 8, 4, None)), {"gpus_per_trial": 1.5}, "1.5 can't be held: .* valid value is 2"),
        (cluster((1, 2, 0, None)), {"workers": 5}, "workers: 5 of 1 cores .* nearest valid value is 2"),
        (
            cluster((1, 16, 0, None), (1, 4, 1, None)),
            {"cpus_per_trial": 8, "gpus_per_trial": 1},
            "no machine .* 8 cores and 1 GPUs; the nearest valid search.cpus_per_trial is 4",
        ),
    ],
)
def test_what_can_never_be_placed_is_refused(shape: Shape, search: dict[str, float], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        refuse_impossible(shape, Search(**search))


def test_the_change_that_is_named_is_the_smallest_that_fits() -> None:
    shape = cluster((2, 6, 0, None), (1, 3, 1, None))
    refuse_impossible(shape, Search(cpus_per_trial=2, workers=7))
    with pytest.raises(StudyError, match="valid value is 7"):
        refuse_impossible(shape, Search(cpus_per_trial=2, workers=8))


def test_memory_that_no_machine_has_is_refused_and_unknown_memory_is_not() -> None:
    refuse_too_large(cluster((1, 4, 0, None)), Search(), 1e15, lambda most: None)
    refuse_too_large(cluster((1, 4, 0, 8)), Search(), 8e9, lambda most: None)
    with pytest.raises(
        StudyError, match=r"needs 9.5 GB of memory, .* has 8.0 GB; give it a machine of 10 GB"
    ):
        refuse_too_large(cluster((1, 4, 0, 8), (1, 1, 0, 4)), Search(), 9.5e9, lambda most: None)
    with pytest.raises(StudyError, match="; name 3 people"):  # the larger machine hasn't the cores
        refuse_too_large(
            cluster((1, 1, 0, 64), (1, 4, 0, 4)),
            Search(cpus_per_trial=2),
            9.5e9,
            lambda most: "name 3 people" if most == 4e9 else None,
        )


@pytest.mark.parametrize(
    ("shape", "memory", "limit"),
    [
        (cluster((1, 2, 0, 64)), 1e9, "cores"),
        (cluster((1, 64, 0, 8)), 4e9, "memory"),
        (cluster((1, 64, 0, 640)), 1e9, "search.parallel"),
    ],
)
def test_what_limits_is_what_would_let_most_more_run(shape: Shape, memory: float, limit: str) -> None:
    search = Search(parallel=5, trials=50)
    assert what_limits(shape, Demand.of(search, memory), search) == limit


def written(folder: Path, **changes: object) -> Path:
    path = folder / "cluster.yaml"
    config = {
        "cluster_name": "c",
        "provider": {"type": "aws", "region": "us-east-1"},
        "max_workers": 5,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 4}, "node_config": {}, "max_workers": 0},
            "small": {"resources": {"CPU": 8}, "node_config": {}, "max_workers": 9},
            "large": {
                "resources": {"CPU": 16, "GPU": 2, "memory": 60_000_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 3,
            },
        },
    }
    path.write_text(yaml.safe_dump(config | changes))
    return path


def test_a_launcher_file_is_taken_as_far_as_it_may_grow(tmp_path: Path) -> None:
    shape = shape_in(written(tmp_path))
    assert {each.kind: each.count for each in shape.machines} == {"head": 1, "large": 3, "small": 2}
    assert (shape.cpus, shape.gpus, shape.size) == (4 + 3 * 16 + 2 * 8, 6, 6)
    assert [each.memory for each in shape.machines] == [None, 60e9, None]


def test_machines_of_ones_own_have_what_ray_is_told_at_its_start(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        provider={"type": "local", "head_ip": "192.0.2.1", "worker_ips": ["192.0.2.2", "192.0.2.3"]},
        available_node_types={},
        head_start_ray_commands=["ray stop", "ray start --head --num-cpus=4 --port=6379"],
        worker_start_ray_commands=["ray start --num-cpus 16 --num-gpus=2 --memory=60000000000"],
        max_workers=2,
    )
    config = yaml.safe_load(path.read_text())
    del config["available_node_types"], config["head_node_type"]
    path.write_text(yaml.safe_dump(config))
    assert shape_in(path).machines == (
        Machines("head", 1, 4, 0, None),
        Machines("worker", 2, 16, 2, 60e9),
    )


def test_the_file_that_comes_with_us_can_be_planned_for() -> None:
    assert shape_in(ROOT / "ray_config.yaml").size == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_worker": 3}, "max_worker"),
        ({"provider": {"type": "nowhere"}}, "cluster launcher doesn't take it .*nowhere"),
        ({"head_node_type": "none"}, "cluster launcher doesn't take it"),
        (
            {"head_node_type": "one", "available_node_types": {"one": {"node_config": {}, "resources": {}}}},
            "doesn't tell how many cores a one has; write `resources: .* into available_node_types.one",
        ),
    ],
)
def test_a_file_that_is_wrong_is_one_line_that_names_it(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(ClusterError, match=said) as raised:
        shape_in(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
