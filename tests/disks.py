"""Disks with little room, and a user for whom closed files are closed: what tests can't have everywhere."""

import functools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 10
ROOTS_OWN = "-dac_override,-dac_read_search"
"""The two powers by which root reads what is closed."""


@contextmanager
def small_disk(folder: Path, room: str) -> Iterator[None]:
    """A disk in memory at the new folder. room: options of its size, as tmpfs takes them.

    Whoever holds a file on it open for long, also one that was removed, fails the test.
    """
    folder.mkdir()
    mount(folder, room)
    try:
        yield
    finally:
        until = time.monotonic() + PATIENCE_S
        while subprocess.run(["umount", folder], capture_output=True, check=False).returncode:
            if time.monotonic() > until:
                subprocess.run(["umount", "--lazy", folder], check=True)
                pytest.fail(f"a file on {folder} is still held open")
            time.sleep(0.1)


def mount(folder: Path, room: str) -> None:
    """Mount the disk, or, with `remount,`, change it. Skips where that isn't allowed."""
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", room, "tmpfs", folder], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no `mount` here to make a small disk with")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")


@functools.cache
def as_ordinary_user() -> tuple[str, ...]:
    """What to put before a command so that it reads and writes only what it is allowed to.

    Root gives up its power over closed files: it stays their owner, and an owner may be shut out.
    """
    if os.geteuid():
        return ()
    words = ("setpriv", "--bounding-set", ROOTS_OWN, "--inh-caps", ROOTS_OWN)
    try:
        done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("for root nothing is closed, and there is no `setpriv` to be another with")
    if done.returncode:
        pytest.skip(f"for root nothing is closed, and it can't be another: {done.stderr.strip()}")
    return words
