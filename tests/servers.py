"""MLflow's server, killed, stopped and started again within seconds.

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STARTS_S = 120


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
        until = time.monotonic() + STARTS_S
        while time.monotonic() < until:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.05)
        raise AssertionError(f"MLflow's server did not start: {(self._folder / 'log').read_text()}")

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """A server that runs, on loopback, with an SQLite database in a folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
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
