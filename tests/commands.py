"""The installed command, run as a user runs it; but for the wait until Python has imported all it needs."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from unittest import mock

import forked
import psutil
import pytest
import yaml

from wav2bold import cli


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines on standard error that are not progress, which is indented."""
        return [line for line in self.err.splitlines() if line.strip() and not line.startswith("  ")]


@dataclass(frozen=True)
class Made:
    """A prepared dataset. study: the file to edit, with absolute paths."""

    recordings: Path
    shards: Path
    study: Path

    def study_at(self, folder: Path, **options: object) -> Path:
        """This study with its own results folder, changed by `options`."""
        return edited(self.study, folder / "study.yaml", **{"results": str(folder), **options})


def executable() -> str:
    """The `wav2bold` of the environment that the tests run in."""
    beside = Path(sys.executable).with_name("wav2bold")
    found = str(beside) if beside.is_file() else shutil.which("wav2bold")
    assert found, "wav2bold is not installed"
    return found


def environment(**more: str) -> dict[str, str]:
    """A clean one: no cluster, no tracking server, no terminal's width."""
    unwanted = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "COLUMNS")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | more


def wav2bold(
    *words: object,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
) -> Done:
    """Run `wav2bold` with these words in `folder`, in a process that needn't import: see `forked`."""
    with tempfile.TemporaryDirectory() as output:
        shown = Path(output)
        given = list(map(str, words))
        code = forked.run(given, executable(), folder, environment(**(env or {})), shown, timeout_s)
        return Done(code, (shown / "out").read_text(), (shown / "err").read_text())


def installed(
    *words: object,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
    before: Sequence[str] = (),
) -> Done:
    """The same by the command's own file, imports and all. before: words of a command that runs it."""
    done = subprocess.run(
        [*before, executable(), *map(str, words)],
        cwd=folder,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def here(*words: object, folder: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """The same in this process, on the Ray that it has (`small_ray`): none is started for it, nor ended."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [executable(), *map(str, words)]),
        mock.patch.dict(os.environ, environment(**(env or {})), clear=True),
        chdir(folder or Path.cwd()),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    return Done(int(str(ended.value.code or 0)), out.getvalue(), err.getvalue())


def killed(*words: object, sign: str, env: Mapping[str, str] | None = None) -> None:
    """Run `wav2bold` until `sign` is shown, then kill it and what it had started: a reboot spares nothing."""
    command = begun(*words, env=env)
    shown(command, sign)
    family = psutil.Process(command.process.pid).children(recursive=True)
    command.process.kill()
    for one in family:
        if one.is_running():
            one.kill()
    command.said.close()


@dataclass(frozen=True)
class Running:
    """A command that runs on. said: what it writes, as it comes."""

    process: forked.Begun
    said: TextIO


def begun(
    *words: object, folder: Path | None = None, env: Mapping[str, str] | None = None, out: bool = True
) -> Running:
    """`wav2bold` that runs on, in a process that needn't import. out: False hears standard error alone."""
    with tempfile.TemporaryDirectory() as name:
        pipe = Path(name) / "pipe"
        os.mkfifo(pipe)
        where = folder, environment(**(env or {})), pipe if out else Path(os.devnull), pipe
        process = forked.begin(list(map(str, words)), executable(), *where)
        return Running(process, pipe.open())  # which waits until the command has opened its end


def shown(command: Running, sign: str) -> None:
    """Return once it has written a line with this sign."""
    lines = []
    for line in command.said:
        lines.append(line)
        if sign in line:
            return
    raise AssertionError(f"{sign} was never shown: {''.join(lines)}")


def succeeds(
    *words: object,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    run: Callable[..., Done] = wav2bold,
) -> Done:
    """Run `wav2bold` and insist on exit code 0. run: `wav2bold`, `installed` or `here`."""
    done = run(*words, folder=folder, env=env)
    assert done.code == 0, f"wav2bold {' '.join(map(str, words))}: {done.out[-2000:]}{done.err[-2000:]}"
    return done


def edited(source: Path, target: Path, **options: object) -> Path:
    """The YAML file `source` as `target`, with options changed; `search__trials` is `trials` of `search`."""
    data = yaml.safe_load(source.read_text())
    for name, value in options.items():
        *sections, key = name.split("__")
        section = data
        for part in sections:
            section = section[part]
        section[key] = value
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump(data, sort_keys=False))
    return target


def contents(folder: Path) -> dict[str, str]:
    """Every path below a folder, with a digest of each file."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }
