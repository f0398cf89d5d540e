"""What tests in every room share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED_MEMORY = 150 * 1024**2


def pytest_configure() -> None:
    """Let tests import the helpers beside this file (`recordings`, `real_data`)."""
    sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def small_ray() -> Iterator[None]:
    """A Ray of two CPUs, started once."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    root = str(Path(__file__).parent.parent)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=SHARED_MEMORY,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()
