"""On three hosts a sweep outlives a pulled cable, a killed raylet and a killed driver, and finds the same."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import changing
import psutil
import pytest
from drivers import drive
from hosts import Host, hosts, why_not
from waiting import eventually

from wav2bold.tuning.outbox import opened
from wav2bold.tuning.remembered import Trial

pytestmark = [pytest.mark.slow, pytest.mark.alone]
TRIALS, PORT = 7, 6379
BEGINS_S, LOST_S = 180.0, 180.0
SOON_DEAD = {  # a host that is silent for 15 s counts as lost; Ray's own is a minute
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
}
WAV2BOLD = [sys.executable, "-c", "from wav2bold.cli import main; main()"]


@dataclass
class Cluster:
    """Three hosts that run Ray, and the driver of a sweep on the first."""

    folder: Path
    hosts: list[Host]
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def held(self) -> Path:
        return self.folder / "held"

    def run(self, host: Host, name: str, *words: str, **env: str) -> "subprocess.Popen[bytes]":
        env = {"HOME": str(self.folder), "OMP_NUM_THREADS": "1", **SOON_DEAD, **env}
        self.running[name] = host.start(words, self.folder / f"{name}.log", **env)
        return self.running[name]

    def start(self) -> None:
        head = self.hosts[0]
        words = ("cluster", "start", f"--host={head.address}", f"--port={PORT}", "--cpus=1")
        self.run(head, head.name, *WAV2BOLD, *words)
        log = self.folder / f"{head.name}.log"
        eventually(lambda: "the head answers" in log.read_text(), BEGINS_S, "the head")

    def join(self, host: Host, **env: str) -> None:
        words = ("cluster", "join", f"{self.hosts[0].address}:{PORT}", f"--host={host.address}", "--cpus=1")
        self.run(host, host.name, *WAV2BOLD, *words, **env)

    def refuse_another_version(self, host: Host) -> None:
        """A host that has another Ray is told so and stays outside."""
        other = self.folder / "other"
        other.mkdir()
        (other / "sitecustomize.py").write_text("import ray; ray.__version__ = '2.9.0'")
        self.join(host, PYTHONPATH=os.pathsep.join([str(other), os.environ.get("PYTHONPATH", "")]))
        assert self.running[host.name].wait(BEGINS_S) == 2
        (line,) = (self.folder / f"{host.name}.log").read_text().splitlines()
        assert "this is Ray 2.9.0 and Python" in line

    def sweep(self, *options: str) -> "subprocess.Popen[bytes]":
        head = self.hosts[0]
        words = (str(self.folder), f"{head.address}:{PORT}", str(TRIALS), *options)
        return self.run(head, "driver", sys.executable, changing.__file__, *words)

    def tries(self, number: int) -> list[str]:
        """Addresses of the hosts that tried a trial."""
        found = changing.tries(self.held, "address") if self.held.is_dir() else []
        return [address for which, address in found if which == number]

    def wait(self, *numbers: int, tries: int = 1) -> None:
        """Until each of these trials has been tried so often."""

        def all_tried() -> bool:
            assert self.running["driver"].poll() is None, (self.folder / "driver.log").read_text()[-2000:]
            return all(len(self.tries(number)) >= tries for number in numbers)

        eventually(all_tried, LOST_S, f"try {tries} of trials {numbers}")

    def remembered(self) -> list[Trial]:
        return trials_of(changing.study_of(self.folder, trials=TRIALS, parallel=3))


def trials_of(study: object) -> list[Trial]:
    tracker = opened(study)  # sends what a killed driver had no time to send
    return tracker.trials(tracker.newest_sweep())


def workers_on(host: Host) -> list[psutil.Process]:
    """Ray's processes that run trials there."""
    found = []
    for process in host.processes():
        with suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
                found.append(process)
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with hosts(3, tmp_path) as some:
        found = Cluster(tmp_path, some)
        try:
            yield found
        finally:
            for one in found.running.values():
                one.kill()
                one.wait(20)


def test_hosts_that_are_lost_cost_their_running_trials_only(cluster: Cluster, tmp_path: Path) -> None:
    study = changing.study_of(tmp_path, trials=TRIALS, parallel=3)
    everywhere = {host.address for host in cluster.hosts}
    by_address = {host.address: host for host in cluster.hosts}
    cluster.start()
    cluster.refuse_another_version(cluster.hosts[1])
    for host in cluster.hosts[1:]:
        cluster.join(host)
    cluster.sweep()
    cluster.wait(0, 1, 2)
    assert {cluster.tries(number)[0] for number in (0, 1, 2)} == everywhere

    cut = cluster.hosts[2]
    (lost,) = (number for number in (0, 1, 2) if cluster.tries(number) == [cut.address])
    cut.plug(connected=False)
    for number in (0, 1, 2):
        changing.let_go(cluster.held, number)
    cluster.wait(lost, tries=2)
    assert cluster.tries(lost)[1] != cut.address
    cut.plug(connected=True)
    cluster.running[cut.name].wait(
        LOST_S
    )  # it is told that it counts as lost; a service would start it again
    cluster.join(cut)

    cluster.wait(3, 4, 5)
    assert {cluster.tries(number)[0] for number in (3, 4, 5)} == everywhere
    killed = cluster.hosts[1]
    (also_lost,) = (number for number in (3, 4, 5) if cluster.tries(number) == [killed.address])
    (raylet,) = (one for one in killed.processes() if one.name() == "raylet")
    raylet.kill()
    eventually(lambda: not workers_on(killed), LOST_S, f"{killed.name} is without workers")
    for number in (3, 4, 5):
        changing.let_go(cluster.held, number)
    cluster.wait(also_lost, tries=2)
    assert by_address[cluster.tries(also_lost)[1]] != killed

    cluster.wait(6)
    driver = cluster.running["driver"]
    (python,) = (one for one in cluster.hosts[0].processes() if changing.__file__ in one.cmdline())
    python.send_signal(signal.SIGKILL)
    driver.wait(20)
    ended = [trial for trial in cluster.remembered() if trial.status == "FINISHED"]
    assert [trial.number for trial in ended] == [0, 1, 2, 3, 4, 5]
    changing.let_go(cluster.held, 6)
    assert cluster.sweep("--resume").wait(LOST_S) == 0

    found = cluster.remembered()
    assert [one.status for one in found] == ["FINISHED"] * TRIALS
    assert found[:6] == ended
    often = {number: len(cluster.tries(number)) for number in range(TRIALS)}
    assert often == {number: 2 if number in (lost, also_lost, 6) else 1 for number in range(TRIALS)}
    calm = study.model_copy(update={"results": tmp_path / "calm"})
    assert drive(calm)[0] == 0
    assert [one.scores for one in found] == [pytest.approx(one.scores, abs=1e-4) for one in trials_of(calm)]
