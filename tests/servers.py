"""MLflow's server as its own command, and as one that is killed, stopped and started again within seconds.

`mlflow server` runs `uvicorn mlflow.server.fastapi_app:app`, which imports for seconds at every start. Here a
process has imported it, and each server is a fork of that.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STARTS_S = 180


def free_port() -> int:
    """A port on loopback that nobody has yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def served(folder: Path, database: str, port: int) -> Iterator[str]:
    """`mlflow server` with a database, on loopback; it is killed at the end."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", database, "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=os.environ | quiet
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(uri, lambda: process.poll() is None, folder / "log")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _wait_for(uri: str, lives: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until and lives():
        with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=2):
            return
        time.sleep(0.05)
    raise AssertionError(f"MLflow's server did not start: {log.read_text()}")


class Server:
    """One at a time, always on the same port and database. pid: of the one that runs."""

    def __init__(self, folder: Path, nursery: "subprocess.Popen[str]", port: int) -> None:
        self.uri, self._folder, self._nursery, self.pid = f"http://127.0.0.1:{port}", folder, nursery, 0

    def start(self) -> None:
        """Return once it answers."""
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        print("start", file=self._nursery.stdin, flush=True)
        self.pid = int(self._nursery.stdout.readline())
        _wait_for(self.uri, lambda: True, self._folder / "log")

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """A server that runs, on loopback, with an SQLite database in a folder."""
    port = free_port()
    with (folder / "log").open("w") as log:
        nursery = subprocess.Popen(
            [sys.executable, __file__, str(folder), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    server = Server(folder, nursery, port)
    try:
        server.start()
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.kill()
        nursery.kill()
        nursery.communicate()


def _nurse(folder: Path, port: int) -> None:
    import uvicorn

    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import server

    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder / 'server.db'}"
    os.environ[server.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = str(folder / "artifacts")
    os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    import mlflow.server.fastapi_app
    import mlflow.store.tracking.sqlalchemy_store

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever is killed leaves no body
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            uvicorn.run(mlflow.server.fastapi_app.app, host="127.0.0.1", port=port, log_level="warning")
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    _nurse(Path(sys.argv[1]), int(sys.argv[2]))
