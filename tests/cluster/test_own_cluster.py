"""A cluster that wav2bold starts lets in whoever holds the token, from this machine alone, and takes jobs."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
import ray
from listeners import noise_listeners, on_disk, save_small_wav2vec2, speech
from ray._private.utils import check_version_info

from wav2bold.cluster import jobs, token
from wav2bold.cluster.connect import other_versions
from wav2bold.cluster.nodes import has_job_server
from wav2bold.config import Configuration, Search, Split, Study
from wav2bold.errors import ClusterError

pytestmark = pytest.mark.alone
COMMAND = [sys.executable, "-c", "from wav2bold.cli import main; main()"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Head:
    """A running head. home: of the user who started it."""

    process: "subprocess.Popen[str]"
    home: Path
    port: int
    jobs: str

    def run(self, *words: str, home: Path | None = None, **env: str) -> "subprocess.CompletedProcess[str]":
        """`wav2bold` with these words, as a user with this home."""
        return subprocess.run(
            [*COMMAND, *words],
            env=environment(home or self.home, RAY_API_SERVER_ADDRESS=self.jobs, **env),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


def environment(home: Path, **more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    return own | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    port, jobs_port = free_port(), free_port()
    process = subprocess.Popen(
        [*COMMAND, "cluster", "start", f"--port={port}", f"--jobs-port={jobs_port}", "--cpus=1"],
        env=environment(home),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = process.stderr.readline()
    assert told == f"the head answers at 127.0.0.1:{port}\n", told + process.stderr.read()
    own = psutil.Process(process.pid).children(recursive=True)
    yield Head(process, home, port, f"http://127.0.0.1:{jobs_port}")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    _, left = psutil.wait_procs(own, timeout=20)
    for one in left:
        with suppress(psutil.Error):
            one.kill()
    assert left == []


def test_the_token_is_its_owners_alone_and_nothing_hears_beyond_loopback(head: Head) -> None:
    file = head.home / ".ray" / "auth_token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = file.read_text()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    started = [psutil.Process(head.process.pid), *psutil.Process(head.process.pid).children(recursive=True)]
    assert "gcs_server" in {one.name() for one in started}
    assert not [one for one in started if secret in " ".join(one.cmdline())]
    heard = {c.laddr.ip for one in started for c in one.net_connections("inet") if c.status == "LISTEN"}
    assert {ip.removeprefix("::ffff:") for ip in heard} <= {"127.0.0.1", "::1"}
    words = " ".join(word for one in started for word in one.cmdline())
    (session,) = set(re.findall(r"(?<![^\s=])/[^\s=]*?/session_\d[\d_-]+", words))
    logs = Path(session) / "logs"
    assert list(logs.glob("gcs_server*"))
    assert not [
        path for path in logs.glob("*") if path.is_file() and secret in path.read_text(errors="replace")
    ]


def test_who_holds_the_token_is_let_in_and_others_are_told(head: Head, tmp_path: Path) -> None:
    address = f"--address=127.0.0.1:{head.port}"
    inside = head.run("cluster", "status", address)
    assert inside.returncode == 0, inside.stderr
    assert "free: 1 of 1 cores, 0 of 0 GPUs" in inside.stdout
    (tmp_path / ".ray").mkdir()
    for secret, said in (
        ("", "asks for a token; set RAY_AUTH_MODE=token"),
        ("0" * 64, "refuses the token in"),
    ):
        if secret:
            (tmp_path / ".ray" / "auth_token").write_text(secret)
        asked = [("cluster", "status", address)]
        if has_job_server():
            asked.append(("cluster", "logs", "raysubmit_any"))
        for words in asked:
            begun = time.monotonic()
            outside = head.run(*words, home=tmp_path)
            assert outside.returncode == 2
            assert time.monotonic() - begun < 20  # with the start of Python; the answer itself takes a second
            (line,) = outside.stderr.splitlines()
            assert said in line


def test_another_version_than_the_clusters_is_one_line(head: Head, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import ray; ray.__version__ = '2.9.0'")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    asked = {
        (
            "cluster",
            "status",
            f"--address=127.0.0.1:{head.port}",
        ): f"the cluster runs Ray {ray.__version__} and",
    }
    if has_job_server():
        asked["cluster", "logs", "raysubmit_any"] = f"runs Ray {ray.__version__}, this is 2.9.0; install"
    for words, said in asked.items():
        begun = time.monotonic()
        done = head.run(*words, PYTHONPATH=path)
        assert done.returncode == 2
        assert time.monotonic() - begun < 20  # as above
        (line,) = done.stderr.splitlines()
        assert said in line


def test_another_python_is_told_by_both_versions() -> None:
    there = {"ray_version": ray.__version__, "python_version": "3.9.1"}
    with pytest.raises(RuntimeError) as raised:
        check_version_info(there, "here")
    told = str(other_versions(str(raised.value)))
    assert f"and Python 3.9.1, this is Ray {ray.__version__} and Python {sys.version.split()[0]};" in told
    assert other_versions("connection refused") is None


def test_a_machine_without_the_token_can_not_join(head: Head, tmp_path: Path) -> None:
    done = head.run("cluster", "join", f"127.0.0.1:{head.port}", home=tmp_path)
    assert done.returncode == 2
    assert "there is no token at" in done.stderr
    dead = head.run("cluster", "join", f"127.0.0.1:{free_port()}")
    assert dead.returncode == 2
    assert "no Ray cluster answers at" in dead.stderr
    alone = head.run("cluster", "join", f"127.0.0.1:{head.port}")
    assert alone.returncode == 2
    assert "keeps to its own machine; start it by `wav2bold cluster start --host ADDRESS`" in alone.stderr


jobs_only = pytest.mark.skipif(not has_job_server(), reason="Ray's job server needs ray[default]")


def small_study(folder: Path, name: str = "handed", trials: int = 1) -> Path:
    """The file of a study of one person who heard four stories of 12 s."""
    stories = ("bakery", "ferry", "library", "orchard")
    sounds = {story: speech(12, number) for number, story in enumerate(stories)}
    on_disk(folder / "shards", sounds, noise_listeners(stories, 12, 1.0, {"sub-001": 3}), 1.0)
    study = Study(
        name=name,
        shards=folder / "shards",
        encoder=str(save_small_wav2vec2(folder / "encoder")),
        split=Split(validation=("ferry",), test=("library",)),
        results=folder,
        configuration=Configuration(history=2, epochs=1, unfrozen={}, noise="white"),
        search=Search(trials=trials, parallel=1),
    )
    study.save(folder / "study.yaml")
    return folder / "study.yaml"


@jobs_only
def test_work_is_handed_over_with_study_and_package(head: Head, tmp_path: Path) -> None:
    small_study(tmp_path)
    done = head.run("refine", str(tmp_path / "study.yaml"), "--submit")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 subjects refined" in done.stdout
    assert len(done.stderr.splitlines()) == 1, "Ray itself says nothing here"
    assert (tmp_path / "refined-paper" / "sub-001" / "model.safetensors").is_file()
    (job,) = re.findall(r"handed over as (\S+)", done.stderr)
    again = head.run("cluster", "logs", job)
    assert "1 subjects refined" in again.stdout
    assert f"{job} had ended before" in head.run("cluster", "stop", job).stdout
    unknown = head.run("cluster", "logs", "raysubmit_none")
    assert unknown.returncode == 2
    assert f"knows no job raysubmit_none; it knows {job}" in unknown.stderr
    broken = head.run("refine", str(tmp_path / "study.yaml"), "--subjects=sub-009", "--submit")
    assert broken.returncode == 2, "the job's own exit code"
    assert "there is no sub-009 in the shards" in broken.stdout


def test_a_plan_times_a_trial_where_it_will_run(head: Head, tmp_path: Path) -> None:
    study = small_study(tmp_path)
    done = head.run(
        "cluster", "plan", str(study), f"--address=127.0.0.1:{head.port}", "--calibrate", "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["pace"]["where"] == "a worker of the cluster"
    assert told["hours"] > 0


@contextmanager
def handed_over(head: Head, study: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A terminal that looks on at a sweep which the cluster has taken, and the job's id."""
    looking = subprocess.Popen(
        [*COMMAND, "sweep", str(study), "--submit"],
        env=environment(head.home, RAY_API_SERVER_ADDRESS=head.jobs),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert looking.stderr is not None
        told = looking.stderr.readline()
        assert told.startswith("handed over as "), told + looking.stderr.read()
        yield looking, told.split()[-1]
    finally:
        looking.kill()
        looking.communicate()


@jobs_only
def test_ctrl_c_detaches_and_the_job_is_seen_to_its_end_from_elsewhere(head: Head, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(head.home / ".ray", elsewhere / ".ray")
    study = small_study(tmp_path, trials=2)
    with handed_over(head, study) as (looking, job):
        time.sleep(1)
        looking.send_signal(signal.SIGINT)
        _, said = looking.communicate(timeout=20)
        assert looking.returncode == 0
        assert said.splitlines() == [f"detached; the job goes on: wav2bold cluster logs {job} --follow"]
    followed = head.run("cluster", "logs", job, "--follow", home=elsewhere)
    assert followed.returncode == 0, followed.stderr
    assert "2/2" in followed.stdout
    assert f"{job} had ended before" in head.run("cluster", "stop", job, home=elsewhere).stdout


@jobs_only
def test_a_job_is_stopped_from_elsewhere_and_who_looks_on_is_told(head: Head, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(head.home / ".ray", elsewhere / ".ray")
    with handed_over(head, small_study(tmp_path, "stopped", trials=50)) as (looking, job):
        assert head.run("cluster", "stop", job, home=elsewhere).stdout == f"{job} is being stopped\n"
        looking.communicate(timeout=60)
        assert looking.returncode == 1


@pytest.fixture
def server() -> Iterator[list[tuple[int, str]]]:
    """A server on loopback that answers what the list's last entry says; the first holds its port."""
    answers: list[tuple[int, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answers[-1]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    answers.append((http.server_port, ""))
    Thread(target=http.serve_forever, daemon=True).start()
    yield answers
    http.shutdown()


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (401, "", "asks for a token|refuses the token"),
        (200, "<html>", "something else than Ray's job server answers at"),
        (200, json.dumps({"ray_version": "2.9.0"}), r"runs Ray 2.9.0, this is .*; install ray==2.9.0 here"),
    ],
)
def test_a_job_server_that_can_not_be_used_is_one_line(
    code: int, body: str, said: str, server: list[tuple[int, str]]
) -> None:
    url = f"http://user:secret@127.0.0.1:{server[0][0]}"
    server.append((code, body))
    with pytest.raises(ClusterError, match=said) as raised:
        jobs.job_server(url)
    assert "secret" not in str(raised.value)


def test_a_job_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ClusterError, match=r"no job server answers at http://127.0.0.1:.*; a cluster's head"):
        jobs.job_server(f"127.0.0.1:{free_port()}")
    with pytest.raises(ClusterError, match="no address of a job server"):
        jobs.job_server("ray://head:10001")


def test_a_head_that_has_just_started_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Server:
        def submit_job(self, entrypoint: str, **_: object) -> str:
            asked.append(entrypoint)
            if len(asked) < 3:
                raise RuntimeError(f"Request failed with status code 500: {jobs.NOT_READY}, please try again")
            return "raysubmit_1"

    monkeypatch.setattr(jobs, "ASKED_EVERY_S", 0.0)
    study = small_study(tmp_path)
    assert jobs.hand_over(Server(), "sweep", study, {}) == "raysubmit_1"
    assert len(asked) == 3
    asked.clear()
    monkeypatch.setattr(jobs, "READY_S", 0.0)
    with pytest.raises(ClusterError, match="the cluster has taken no jobs for 0 s; look at its head's log"):
        jobs.hand_over(Server(), "sweep", study, {})


def test_a_token_that_others_can_read_is_hidden_from_them_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own" / "auth_token"
    monkeypatch.setenv(token.FILE, str(file))
    assert token.made_token() == file
    first = file.read_text()
    file.chmod(0o644)
    token.made_token()
    assert file.read_text() == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
