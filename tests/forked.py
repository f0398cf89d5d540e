"""`wav2bold` in processes that needn't import: each is forked from one that has, once for all tests.

torch, transformers, Ray and MLflow take 2 to 6 s of a processor to import: most of a small command's time.
All else is the command's own: its process, environment, folder and output, and whatever `main()` does.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

HEAVY = (
    "wav2bold.cli",
    "wav2bold.datasets.simulate",
    "wav2bold.datasets.prepare",
    "wav2bold.tuning.sweep",
    "wav2bold.tuning.subjects",
    "transformers.models.wav2vec2",
    "mlflow.store.tracking.sqlalchemy_store",
)


class Begun:
    """A command that runs on."""

    def __init__(self, pid: int, end: Future[int]) -> None:
        self.pid = pid
        self._end = end

    def has_ended(self) -> bool:
        return self._end.done()

    def wait(self, timeout_s: float) -> int:
        """Its exit code; minus the signal that ended it. Raises subprocess.TimeoutExpired."""
        try:
            return self._end.result(timeout_s)
        except TimeoutError:
            raise subprocess.TimeoutExpired("wav2bold", timeout_s) from None

    def kill(self) -> None:
        """End it, unless it has ended."""
        if not self.has_ended():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._end.result()


def run(
    words: Sequence[str],
    program: str,
    folder: Path | None,
    environment: Mapping[str, str],
    output: Path,
    timeout_s: float,
) -> int:
    """Exit code of `wav2bold` with these words; what it shows is in `output/out` and `output/err`.

    program: the installed command's path. One that takes longer is killed: subprocess.TimeoutExpired.
    """
    command = begin(words, program, folder, environment, output / "out", output / "err")
    try:
        return command.wait(timeout_s)
    finally:
        command.kill()


def begin(
    words: Sequence[str],
    program: str,
    folder: Path | None,
    environment: Mapping[str, str],
    out: Path,
    err: Path,
) -> Begun:
    """Start the same. out, err: where it writes, one file or two; a named pipe is waited for."""
    server = _free_server()
    assert server.stdin is not None
    assert server.stdout is not None
    order = {
        "words": [program, *words],
        "folder": str(folder or Path.cwd()),
        "environment": dict(environment),
        "output": [str(out), str(err)],
    }
    server.stdin.write(json.dumps(order) + "\n")
    server.stdin.flush()
    end: Future[int] = Future()
    command = Begun(int(server.stdout.readline()), end)
    answers = server.stdout

    def tell() -> None:
        end.set_result(int(answers.readline() or -signal.SIGKILL))

    threading.Thread(target=tell, daemon=True).start()
    _servers.append((server, command))
    return command


_servers: list[tuple["subprocess.Popen[str]", Begun]] = []
"""Each with its latest command."""


def _free_server() -> "subprocess.Popen[str]":
    """One whose command has ended: it forks the next only then."""
    for place, (server, command) in enumerate(_servers):
        if command.has_ended() and server.poll() is None:
            del _servers[place]
            return server
    return _new_server()


def _new_server() -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [sys.executable, __file__],
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    atexit.register(server.kill)
    return server


def _serve() -> None:
    """Fork for every order; tell the process, then how it ended. Forks go on as the command does."""
    sys.path.pop(0)  # the tests' folder, which the command doesn't see
    cli: Any = importlib.import_module("wav2bold.cli")
    os.environ.update(cli.QUIET | {"HF_HUB_VERBOSITY": "error"})  # as `main` does before anything is imported
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # or each fork would copy what its own garbage collection looks at
    assert threading.active_count() == 1, "a fork has no other threads"
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _become(json.loads(line))
            _end(_code_of(cli.main))
        _tell(process)
        _, status = os.waitpid(process, 0)
        _tell(os.waitstatus_to_exitcode(status))


def _tell(number: int) -> None:
    os.write(1, f"{number}\n".encode())


def _become(order: dict[str, Any]) -> None:
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    os.setsid()
    out, err = order["output"]
    nothing = os.open(os.devnull, os.O_RDONLY)
    files = {name: os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in dict.fromkeys((out, err))}
    for number, file in enumerate((nothing, files[out], files[err])):
        os.dup2(file, number)
    for file in (nothing, *files.values()):
        os.close(file)
    sys.argv = order["words"]


def _code_of(main: Any) -> int:
    try:
        main()
    except SystemExit as ended:
        return int(str(ended.code or 0))
    except BaseException:
        traceback.print_exc()
    return 1


def _end(code: int) -> None:
    """As the interpreter ends, except that it doesn't take apart what it had imported: that takes seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
