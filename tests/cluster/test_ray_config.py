"""`ray_config.yaml` is one that Ray's own cluster launcher takes, and a broken one is not."""

import copy
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[2] / "ray_config.yaml"


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
