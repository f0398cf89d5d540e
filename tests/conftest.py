"""What tests in every room share."""

import logging
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from wav2bold.imports import importing


def pytest_configure() -> None:
    """Let tests import the helpers beside this file (`recordings`, ...) and take the time they need."""
    sys.path.insert(0, str(Path(__file__).parent))
    hypothesis.settings.register_profile("unhurried", deadline=None)
    hypothesis.settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collecting imports nearly everything that is installed."""
    with importing():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts Ray, unless it may have nothing at all beside it."""
    for item in items:
        here = item.path.relative_to(Path(__file__).parent).parts[0]
        starts = here in {"e2e", "cluster"} or "small_ray" in getattr(item, "fixturenames", ())
        if starts and item.get_closest_marker("alone") is None:
            item.add_marker(pytest.mark.ray)


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """Let numbers near 0 be themselves: refinement takes them for 0 from then on; hypothesis minds."""
    _with_denormals()
    yield
    _with_denormals()


def _with_denormals() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_flush_denormal"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server on loopback, which keys and endpoint in the environment lead to."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    nothing = str(tmp_path_factory.mktemp("aws") / "none")
    settings = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "listener",
        "AWS_SECRET_ACCESS_KEY": "unspoken",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield address
    server.stop()


@pytest.fixture(scope="session")
def small_ray(object_store: str) -> Iterator[None]:
    """A Ray of two CPUs, started once; its workers find the object store."""
    from wav2bold.cluster.connect import connected

    with connected(cpus=2, object_store_mb=150):
        yield
