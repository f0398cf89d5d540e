"""Several hosts on one machine: network namespaces that a bridge joins, each with its own /tmp/ray."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

NETWORK = "198.51.100"  # TEST-NET-2 of RFC 5737: nobody's


@dataclass(frozen=True)
class Host:
    """A namespace. link: the end of its cable that is plugged into the bridge.  ray: its /tmp/ray."""

    name: str
    address: str
    link: str
    ray: Path

    def start(self, words: Sequence[str], log: Path, **env: str) -> "subprocess.Popen[bytes]":
        """Run a command there; what it says goes to a file."""
        own = 'mount --bind "$0" /tmp/ray && exec "$@"'
        with log.open("ab") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, "sh", "-c", own, str(self.ray), *words],
                env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | env,
                stdout=file,
                stderr=file,
            )

    def plug(self, *, connected: bool) -> None:
        """Pull its cable out, or put it in again."""
        ip("link", "set", self.link, "up" if connected else "down")

    def processes(self) -> list[psutil.Process]:
        """All that run there."""
        found = []
        for pid in ip("netns", "pids", self.name).split():
            with suppress(psutil.Error):
                found.append(psutil.Process(int(pid)))
        return found


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
    return done.stdout


def why_not() -> str | None:
    """What keeps this machine from having such hosts, if anything does."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "hosts of their own need network namespaces: root, and `ip` of iproute2"
    try:
        with hosts(1, Path("/tmp")):
            return None
    except subprocess.CalledProcessError as error:
        return f"this machine allows no network namespaces, bridges or veth ({error.stderr.strip()})"


@contextmanager
def hosts(count: int, folder: Path) -> Iterator[list[Host]]:
    """So many hosts that see each other and nobody else; gone at the end with all that runs there."""
    bridge = f"w2b{os.getpid()}"
    made: list[Host] = []
    ip("link", "add", "name", bridge, "type", "bridge")
    try:
        ip("link", "set", bridge, "up")
        Path("/tmp/ray").mkdir(exist_ok=True)
        for number in range(1, count + 1):
            name, own = f"{bridge}-{number}", folder / f"host-{number}"
            own.mkdir(exist_ok=True)
            host = Host(name, f"{NETWORK}.{number}", f"{bridge}v{number}", own)
            ip("netns", "add", name)
            made.append(host)
            ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", host.link, "master", bridge, "up")
            ip("-n", name, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "route", "add", "default", "dev", "eth0")  # Ray finds its address by a route
        yield made
    finally:
        for host in made:
            left = host.processes()
            for one in left:
                with suppress(psutil.Error):
                    one.send_signal(signal.SIGKILL)
            psutil.wait_procs(left, timeout=20)
            ip("netns", "del", host.name)
        ip("link", "del", bridge)
