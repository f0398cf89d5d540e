"""Where work runs: a Ray started on this machine, or one that is already running."""

import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import ray
from ray._private import ray_constants
from ray._private.services import canonicalize_bootstrap_address_or_die, get_node_ip_address
from ray.exceptions import AuthenticationError, RaySystemError

from wav2bold.cluster.token import refused, show_token
from wav2bold.errors import ClusterError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PORT_ANSWERS_S = 2.0
RAY_ANSWERS_S = 7.0
ASK = """
import sys
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient
GcsClient(address=canonicalize_bootstrap_address(sys.argv[1])).internal_kv_exists(b"wav2bold")
"""
VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
"""How Ray tells versions that differ: the cluster's, then ours."""
QUIET = {
    # Tune's and Train's tables give way to our own report; both are read when those are imported.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Two notices per process that no user of ours can act on.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}

KEPT_WARM = {"idle_worker_killing_time_threshold_ms": 300_000}
"""Ray ends a process that idled for 1 s if there are more than cores, and Ray Data's two servers count. The
next task would wait for another to import all that it needs."""


@dataclass(frozen=True)
class Resources:
    """What the whole cluster has, busy or not."""

    cpus: float
    gpus: float


@contextmanager
def connected(
    address: str | None = None, cpus: int | None = None, object_store_mb: int = 200
) -> Iterator[Resources]:
    """A Ray to work on, gone again on the way out, whatever ends the work: an error, Ctrl-C, SIGTERM.

    The arguments are those of `connect`. Inside another connection it leaves that one as it is.
    """
    ours = not ray.is_initialized()
    try:
        connect(address, cpus, object_store_mb)
        yield resources()
    finally:
        if ours:
            disconnect()


def connect(address: str | None = None, cpus: int | None = None, object_store_mb: int = 200) -> None:
    """Start a Ray on this machine, or attach to the one at `address`, then at RAY_ADDRESS.

    address: `host:6379`, `auto` for one started on this machine, or `local`.
    cpus: cores that a Ray started here may use; all of them by default.
    object_store_mb: shared memory of a Ray started here, MB.
    A Ray started here listens on the loopback interface only. Does nothing if already connected.
    Raises ClusterError, within seconds, if there is no cluster at the address or it refuses us.
    """
    if ray.is_initialized():
        return
    _refuse_shadowing()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _start(cpus, object_store_mb)
    elif cpus is not None:
        raise ClusterError(f"{address} is running already with its own cores", "leave --cpus out")
    else:
        _attach(address)


def disconnect() -> None:
    """Leave the cluster; end a Ray that was started here. A second Ctrl-C doesn't cut this short."""
    if threading.current_thread() is not threading.main_thread():
        ray.shutdown()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _standard_error_closed():
            ray.shutdown()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Ray's own libraries write there, past Python, of each task that ends with Ray itself."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def resources() -> Resources:
    """Processors and GPUs of the cluster that we are connected to."""
    have = ray.cluster_resources()
    return Resources(cpus=float(have.get("CPU", 0)), gpus=float(have.get("GPU", 0)))


def _start(cpus: int | None, object_store_mb: int) -> None:
    if cpus is not None and cpus < 1:
        raise ClusterError(f"cpus: {cpus} is out of range", "the nearest valid value is 1")
    with _loopback():
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                object_store_memory=object_store_mb * 1_000_000,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=_python_in_quotes(),
                _system_config=KEPT_WARM,
            )
        except (PermissionError, ValueError) as error:
            raise ClusterError(f"Ray can't start on this machine ({_one_line(error)})") from error


def _python_in_quotes() -> dict[str, str] | None:
    """Where Python's path has a space, the setting that lets Ray start workers with it all the same.

    Ray hands the path to a shell as it is; the shell would end it at the space.
    """
    quoted = shlex.quote(sys.executable)
    return None if quoted == sys.executable else {"py_executable": quoted}


@contextmanager
def _loopback() -> Iterator[None]:
    """Ray's servers listen on 127.0.0.1 alone.

    Ray has no public option for it: it turns a loopback address that it is given into the machine's
    own, and then listens on every interface. The switch here is the one that makes macOS loopback
    only; the processes that Ray starts read it from the environment.
    """
    with (
        mock.patch.object(ray_constants, "ENABLE_RAY_CLUSTER", new=False),
        # Under `uv run` Ray would otherwise upload the working folder and build an environment per worker.
        mock.patch.object(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", new=False),
        mock.patch.dict(os.environ, {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}),
    ):
        yield


def _attach(address: str) -> None:
    if "://" in address:
        raise ClusterError(
            f"{address} is not where Ray itself answers",
            "give host:6379 on a machine of the cluster; from outside, use `ray job submit`",
        )
    if address == "auto":
        address = _started_here()
    with _loopback() if reach(address) else nullcontext():
        _join(address)


def _started_here() -> str:
    """Where the Ray answers that was started on this machine last."""
    try:
        return str(canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        raise ClusterError(
            f"there is no one Ray cluster on this machine ({_one_line(error)})",
            "start it with `wav2bold cluster start`, or give host:6379",
        ) from error


def reach(address: str) -> bool:
    """Whether the cluster at an address, which answers and lets us in, is for this machine alone.

    The token is shown if the cluster asks for it, and not otherwise: a cluster that asks for none shows none
    itself, and what it then sends to us would be refused; Ray ends every actor without a word.
    Raises ClusterError, within seconds, if there is no cluster or it refuses us.
    """
    host, port = _host_and_port(address)
    alone = _only_here(host, port)
    if not _lets_in(address, host, port, alone=alone):
        show_token()
        if not _lets_in(address, host, port, alone=alone):
            raise refused(address)
    return alone


def _join(address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except AuthenticationError as error:
        raise refused(address) from error
    except (ConnectionError, RuntimeError, RaySystemError, ValueError, TimeoutError) as error:
        raise other_versions(str(error)) or ClusterError(
            f"Ray can't join {address} ({_one_line(error)})",
            "use the same Ray and Python there and here, on a machine of the cluster",
        ) from error


def other_versions(said: str) -> ClusterError | None:
    """The refusal of a cluster whose Ray or Python is another one, if that is what Ray says."""
    found = VERSIONS.findall(said)
    if len(found) < 2:
        return None
    (ray_there, python_there), (ray_here, python_here) = found[:2]
    return ClusterError(
        f"the cluster runs Ray {ray_there} and Python {python_there}, this is Ray {ray_here} and Python "
        f"{python_here}",
        "install the cluster's versions here",
    )


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError(f"{address} is no address of a Ray cluster", "write host:6379")
    return host.strip("[]"), int(port)


def _only_here(host: str, port: int) -> bool:
    """Whether an address is a loopback one at which nothing answers from outside, as `cluster start` has it.

    Ray itself would ask at the machine's own address in its place.
    """
    if host not in LOOPBACK:
        return False
    try:
        socket.create_connection((get_node_ip_address(), port), timeout=PORT_ANSWERS_S).close()
    except OSError:
        return True
    return False


def _lets_in(address: str, host: str, port: int, *, alone: bool) -> bool:
    """Whether Ray lets us in there as we are. Raises ClusterError unless it answers.

    alone: whether the cluster keeps to this machine.
    A port that is open is not enough: a proxy or another program may hold it. The question is put
    in another process because Ray's client can't be told to give up, and writes while it waits;
    `ray.init` itself would wait for minutes.
    """
    cure = "start it with `ray up ray_config.yaml`, or leave --address and RAY_ADDRESS out to run here"
    try:
        socket.create_connection((host, port), timeout=PORT_ANSWERS_S).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error.strerror or error})", cure
        ) from error
    try:
        with _loopback() if alone else nullcontext():
            done = subprocess.run(
                [sys.executable, "-c", ASK, address], check=False, capture_output=True, timeout=RAY_ANSWERS_S
            )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"something else than Ray answers at {address} (silent for {RAY_ANSWERS_S:g} s)", cure
        ) from error
    said = done.stderr.decode(errors="replace")
    if done.returncode and "Authentication" not in said:
        last = said.strip().splitlines()[-1:] or ["no reason given"]
        raise ClusterError(f"no Ray cluster answers at {address} ({last[0]})", cure)
    return not done.returncode


def _refuse_shadowing() -> None:
    """Raise ClusterError if `import datasets` would find our room and not Hugging Face's package."""
    for entry in [str(Path.cwd()), *sys.path]:
        folder = Path(entry or ".").resolve()
        if folder.name == "wav2bold" and (folder / "datasets" / "shards.py").is_file():
            raise ClusterError(
                f"in {folder}, Ray's workers would take {folder.name}/datasets for Hugging Face's datasets",
                "run the `wav2bold` command from another folder",
            )


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
