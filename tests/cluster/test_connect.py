"""Ray starts quietly, on loopback, and leaves nothing behind; a dead address is one clear error."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from wav2bold.cluster import connect as door
from wav2bold.cluster.connect import connect, disconnect
from wav2bold.errors import ClusterError

# Each test drives a Python of its own: the tests of other rooms share a Ray in this one.


def script(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def run(code: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        script(code),
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment(**extra: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | extra


SLEEPER = """
    import time, ray
    from wav2bold.cluster.connect import connected

    @ray.remote
    def nap():
        time.sleep(600)

    with connected(cpus=1, object_store_mb=80):
        task = nap.remote()
        time.sleep(1)
        print("asleep", flush=True)
        ray.get(task)
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A Python that waits for a task of its own Ray, and that Ray's processes."""
    process = subprocess.Popen(
        script(SLEEPER),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asleep\n"
    children = psutil.Process(process.pid).children(recursive=True)
    yield process, children
    for left in [child for child in children if child.is_running()]:
        left.kill()
    process.kill()
    process.communicate()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_every_process_ends_with_its_driver(
    sleeper: tuple[subprocess.Popen[str], list[psutil.Process]], ending: signal.Signals
) -> None:
    process, children = sleeper
    assert {"raylet", "gcs_server"} <= {child.name() for child in children}
    process.send_signal(ending)
    _, alive = psutil.wait_procs([psutil.Process(process.pid), *children], timeout=10)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


def test_a_second_ctrl_c_does_not_cut_the_end_short(
    sleeper: tuple[subprocess.Popen[str], list[psutil.Process]],
) -> None:
    process, children = sleeper
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_ctrl_c_while_ray_starts_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(script(SLEEPER), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
    parent = psutil.Process(process.pid)
    while not (children := parent.children(recursive=True)):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
    children = parent.children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_a_local_ray_is_quiet_and_hears_loopback_only(tmp_path: Path) -> None:
    done = run(
        """
        import os, psutil, ray
        from wav2bold.cluster.connect import connected, resources

        before = dict(os.environ)
        with connected(cpus=2, object_store_mb=80) as have:
            assert (have.cpus, have.gpus) == (2.0, have.gpus)
            with connected(cpus=7) as inner:      # inside another: that one, as it is
                assert inner == have
            assert resources() == have
            assert ray.get(ray.remote(lambda: 3).remote()) == 3
            processes = psutil.Process().children(recursive=True)
            heard = [c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == "LISTEN"]
            assert len(heard) >= 4, heard
            assert {ip.removeprefix("::ffff:") for ip in heard} == {"127.0.0.1"}, heard
        assert not ray.is_initialized()
        assert os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") is None
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_error_inside_still_ends_ray(tmp_path: Path) -> None:
    done = run(
        """
        import ray
        from wav2bold.cluster.connect import connected
        try:
            with connected(cpus=1, object_store_mb=80):
                raise KeyError("mine")
        except KeyError as error:
            assert error.args == ("mine",)
        assert not ray.is_initialized()
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_ray_says_of_tasks_that_end_with_it_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whether it says anything is a matter of milliseconds: here it does each time."""
    said: list[int] = []
    monkeypatch.setattr(
        door.ray, "shutdown", lambda: said.append(os.write(2, b"Failed to push error to driver for task\n"))
    )
    disconnect()
    os.write(2, b"afterwards\n")
    assert said
    assert capfd.readouterr().err == "afterwards\n"


def test_a_python_whose_path_has_a_space_can_start_workers(tmp_path: Path) -> None:
    folder = tmp_path / "my environment"
    folder.symlink_to(sys.prefix)
    code = """
        import ray, sys
        from wav2bold.cluster.connect import connected

        @ray.remote(num_cpus=1, runtime_env={"env_vars": {"HEARD": "yes"}})  # as Tune starts its actors
        class Listener:
            def python(self):
                return sys.executable

        with connected(cpus=1, object_store_mb=80):
            print(ray.get(Listener.remote().python.remote(), timeout=60))
        """
    done = subprocess.run(
        [str(folder / "bin" / "python"), *script(code)[1:]],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == str(folder / "bin" / "python"), done.stderr


def attempt(cwd: Path, argument: str = "", **env: str) -> str:
    """What connecting says, in a Python of its own; not connected afterwards."""
    done = run(
        f"""
        import ray
        from wav2bold.cluster.connect import connected
        from wav2bold.errors import ClusterError
        try:
            with connected({argument}):
                print("connected")
        except ClusterError as error:
            print(error)
        assert not ray.is_initialized()
        """,
        cwd,
        **env,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_dead_address_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"127.0.0.1:{taken.getsockname()[1]}"
    begun = time.monotonic()
    said = attempt(tmp_path, repr(dead))
    assert said.startswith(f"no Ray cluster answers at {dead} (Connection refused); start it with")
    assert "\n" not in said
    assert time.monotonic() - begun < 30  # Ray's own wait is minutes; ours is under 10 s after the imports


def test_a_program_that_is_not_ray_is_told_apart(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        assert attempt(tmp_path, repr(address)).startswith(f"something else than Ray answers at {address}")


def test_ray_address_is_read(tmp_path: Path) -> None:
    assert "nowhere:1" in attempt(tmp_path, RAY_ADDRESS="nowhere:1")
    assert attempt(tmp_path, "'local', cpus=1, object_store_mb=80", RAY_ADDRESS="nowhere:1") == "connected"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "give host:6379"),
        ("http://head:8265", "ray job submit"),
        ("head", "head is no address of a Ray cluster; write host:6379"),
        ("head:port", "write host:6379"),
        ("head:99999", "write host:6379"),
    ],
)
def test_an_address_of_another_kind_says_which_to_give(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match=said):
        connect(address)


def test_cores_of_a_running_cluster_are_not_ours_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match=r"head:6379 is running already .*; leave --cpus out"):
        connect("head:6379", cpus=2)


def test_no_cores_at_all_names_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ClusterError, match="cpus: 0 is out of range; the nearest valid value is 1"):
        connect("local", cpus=0)


def test_standing_in_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(__file__).parents[2] / "wav2bold"
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.chdir(package)
    with pytest.raises(ClusterError, match="Hugging Face's datasets; run the `wav2bold` command"):
        connect("local")


def test_a_file_of_the_package_run_by_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = Path(__file__).parents[2] / "wav2bold"
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(package))
    with pytest.raises(ClusterError, match="wav2bold/datasets"):
        connect("local")
