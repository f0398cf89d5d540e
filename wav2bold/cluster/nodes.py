"""A cluster of machines of one's own, started by hand: a head, and machines that join it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR

from wav2bold.cluster.connect import LOOPBACK, QUIET, other_versions, reach
from wav2bold.cluster.token import MODE, made_token, refuse_without_token
from wav2bold.errors import ClusterError

HERE = "127.0.0.1"
ENDS_S = 20.0
"""How long Ray may take to end its processes before we leave it to that."""
STARTED = "Ray runtime started"
Started = Callable[[], None]


def start(host: str, port: int, jobs_port: int, lent: Mapping[str, int | None], started: Started) -> None:
    """Run the head of a cluster until it is interrupted; it asks for the token, which is made if need be.

    host: address that other machines reach this one at; a loopback one keeps it to this machine.  port: of
    Ray.  jobs_port: of its job server, on loopback, where `ray[default]` is installed.  lent: what this
    machine lends, by Ray's option, None for what Ray finds.  started: called once it runs.
    """
    made_token()
    with_jobs = has_job_server()
    words = ["--head", f"--node-ip-address={host}", f"--port={port}", f"--include-dashboard={with_jobs}"]
    if with_jobs:
        words += [f"--dashboard-host={HERE}", f"--dashboard-port={jobs_port}"]
    _run(words, lent, started, only_here=host in LOOPBACK)


def join(address: str, host: str | None, lent: Mapping[str, int | None], started: Started) -> None:
    """Lend this machine to the cluster at an address until it is interrupted.

    host: address that the others reach this one at; None for what Ray finds.  lent, started: as for `start`.
    Raises ClusterError, within seconds, if there is no cluster there, it refuses our token, has another
    version of Ray or Python, or is for its own machine alone.
    """
    refuse_without_token()
    if reach(address):
        raise ClusterError(
            f"the head at {address} keeps to its own machine",
            "start it by `wav2bold cluster start --host ADDRESS`",
        )
    words = [f"--address={address}"] + ([f"--node-ip-address={host}"] if host else [])
    _run(words, lent, started, only_here=False)


def has_job_server() -> bool:
    """Whether what Ray's job server needs is installed."""
    from ray._private.utils import get_dashboard_dependency_error

    return get_dashboard_dependency_error() is None


def _run(words: list[str], lent: Mapping[str, int | None], started: Started, *, only_here: bool) -> None:
    """Run `ray start` until it ends, and end it if we are ended."""
    binaries = Path(sys.executable).parent
    environment = os.environ | QUIET | {MODE: "token"}
    # Jobs are started by name: theirs must be this Python
    environment["PATH"] = os.pathsep.join([str(binaries), os.environ.get("PATH", os.defpath)])
    if only_here:
        environment[ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # see connect._loopback
    words += [f"--{name}={count}" for name, count in lent.items() if count is not None]
    words.append(
        "--dashboard-agent-listen-port=0"
    )  # Ray's own is one for all Rays of a machine: jobs need it
    command = [str(binaries / "ray"), "start", "--block", "--disable-usage-stats", *words]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    said = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for line in process.stdout or ():
                said.append(line.strip())
                if STARTED in line:
                    started()
        finally:
            process.terminate()  # ends what it started, too
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDS_S)
    if process.returncode > 0:
        raise _why_not(said)


def _why_not(said: Sequence[str]) -> ClusterError:
    versions = other_versions("\n".join(said))
    if versions is not None:
        return versions
    if any(STARTED in line for line in said):
        return ClusterError(
            "Ray ended on this machine: one of its processes died, or the cluster counts the machine as lost",
            "start or join again; a service can do that by itself",
        )
    last = [line for line in said if line][-1:] or ["no reason given"]
    return ClusterError(f"Ray can't start here ({last[0]})")
