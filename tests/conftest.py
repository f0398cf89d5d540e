"""What tests in every room share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Let tests import the helpers beside this file (`recordings`, `real_data`)."""
    sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def small_ray() -> Iterator[None]:
    """A Ray of two CPUs, started once."""
    from wav2bold.cluster.connect import connected

    with connected(cpus=2, object_store_mb=150):
        yield
