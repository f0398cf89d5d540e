"""`ray_config.yaml` is one that Ray's own cluster launcher takes, and a broken one is not."""

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from wav2bold.cluster.shape import shape_in

ROOT = Path(__file__).parents[2]
FILE = ROOT / "ray_config.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def launcher_takes(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` does with a file before it touches a machine."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_takes_the_file(config: dict[str, Any]) -> None:
    prepared = launcher_takes(config)
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["max_workers"] == len(config["provider"]["worker_ips"])
    assert prepared["head_start_ray_commands"] == config["head_start_ray_commands"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("max_worker", 2, "max_worker"),
        ("idle_timeout_minutes", "soon", "soon"),
        ("rsync_exclude", ".git", ".git"),
        ("head_start_ray_commands", "ray start", "ray start"),
        ("cluster_name", 1, "1 is not of type 'string'"),
    ],
)
def test_a_broken_option_is_noticed(config: dict[str, Any], key: str, value: object, said: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=said):
        launcher_takes(config | {key: value})


@pytest.mark.parametrize("key", ["head_ip", "worker_ips"])
def test_a_cluster_without_machines_is_noticed(config: dict[str, Any], key: str) -> None:
    del config["provider"][key]
    with pytest.raises(Exception, match=key):
        launcher_takes(config)


def test_machines_are_addresses_reserved_for_documentation(config: dict[str, Any]) -> None:
    # RFC 5737: a reader who forgets to edit the file reaches nobody.
    provider = config["provider"]
    assert all(ip.startswith("192.0.2.") for ip in [provider["head_ip"], *provider["worker_ips"]])


def test_every_machine_checks_the_token_and_reports_no_usage(config: dict[str, Any]) -> None:
    assert "~/.ray/auth_token" in config["file_mounts"]
    for role in ("head", "worker"):
        start = shlex.split(config[f"{role}_start_ray_commands"][-1])
        assert {"RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0"} <= set(start)
        assert "start" in start


def variant(name: str) -> str:
    """The file with the prefix of a cloud's lines taken away, as its own comment says to do."""
    return re.sub(rf"^#{name}# ", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize(("name", "spot"), [("aws", "InstanceMarketOptions"), ("gcp", "scheduling")])
def test_ray_takes_the_clouds_variants(name: str, spot: str, tmp_path: Path) -> None:
    prepared = launcher_takes(yaml.safe_load(variant(name)))
    assert prepared["provider"]["type"] == name
    assert spot in prepared["available_node_types"]["spot"]["node_config"]
    commands = prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in start and "--num-" not in start for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    path = tmp_path / "cloud.yaml"
    path.write_text(variant(name), encoding="utf-8")
    shape = shape_in(path)
    assert (shape.size, shape.gpus) == (9, 8)


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_a_mistake_in_a_variant_is_noticed(name: str) -> None:
    config = yaml.safe_load(variant(name).replace("node_config:", "node_confg:"))
    with pytest.raises(jsonschema.ValidationError, match="node_confg"):
        launcher_takes(config)


# Fields of the custom resources, from KubeRay's API reference (v1.6):
# https://docs.ray.io/en/master/cluster/kubernetes/references/api.html
CLUSTER = {"authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "headGroupSpec", "rayVersion"}
CLUSTER |= {"workerGroupSpecs"}
JOB = {"entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"}
HEAD = {"rayStartParams", "template"}
WORKERS = HEAD | {"groupName", "replicas", "minReplicas", "maxReplicas"}


def test_kubernetes_gets_the_same_cluster() -> None:
    standing, job = yaml.safe_load_all((ROOT / "cluster" / "kuberay.yaml").read_text(encoding="utf-8"))
    assert [(one["apiVersion"], one["kind"]) for one in (standing, job)] == [
        ("ray.io/v1", "RayCluster"),
        ("ray.io/v1", "RayJob"),
    ]
    assert set(job["spec"]) == JOB
    spec = standing["spec"]
    assert job["spec"]["rayClusterSpec"] == spec
    assert set(spec) == CLUSTER
    assert set(spec["headGroupSpec"]) == HEAD
    (workers,) = spec["workerGroupSpecs"]
    assert set(workers) == WORKERS
    assert spec["authOptions"] == {"mode": "token"}
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\nray=={spec['rayVersion']}\n" in pinned
    cloud = yaml.safe_load(variant("aws"))["available_node_types"]
    assert workers["maxReplicas"] == cloud["spot"]["max_workers"]
    for group, kind in ((spec["headGroupSpec"], "head"), (workers, "spot")):
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert container["resources"]["requests"] == limits, "Ray lends what the limits say"
        assert float(limits["cpu"]) == cloud[kind]["resources"]["CPU"]
        assert float(limits.get("nvidia.com/gpu", 0)) == cloud[kind]["resources"].get("GPU", 0)
        assert container["volumeMounts"] == [{"name": "study", "mountPath": "/study"}]
