"""A PostgreSQL of our own, from whatever server is installed."""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY_ELSE = "postgres"
"""Who runs it where we are root, as whom it refuses to run; Debian's package makes that user."""


def postgres_tool(name: str) -> str:
    """A program of PostgreSQL's server. Skips the test where none is installed."""
    found = [*sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), shutil.which(name)]
    if found[-1] is None and len(found) == 1:
        pytest.skip("PostgreSQL's server is not installed (apt-get install postgresql)")
    return str(found[-2] if len(found) > 1 else found[-1])


@contextmanager
def postgres(port: int, *databases: str) -> Iterator[str]:
    """The address of a server on loopback with these databases and no password, without a database's name."""
    root = os.geteuid() == 0
    who = {"user": NOBODY_ELSE, "group": NOBODY_ELSE, "extra_groups": []} if root else {}
    owner = NOBODY_ELSE if root else getpass.getuser()
    # not below pytest's folder, which is closed to other users
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if root:
            shutil.chown(folder, NOBODY_ELSE, NOBODY_ELSE)
        options = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={owner}"]
        subprocess.run(
            [postgres_tool("initdb"), "-D", name + "/data", *options],
            check=True, capture_output=True, cwd=name, **who,
        )  # fmt: skip
        server = [postgres_tool("pg_ctl"), "-D", name + "/data", "-w", "-t", "120"]
        settings = f"-p {port} -k {name} -c listen_addresses=127.0.0.1 -c fsync=off"
        subprocess.run(
            [*server, "-l", name + "/log", "-o", settings, "start"],
            check=True, stdout=subprocess.DEVNULL, cwd=name, **who,
        )  # fmt: skip
        try:
            for database in databases:
                words = ["-h", "127.0.0.1", "-p", str(port), "-U", owner, database]
                subprocess.run([postgres_tool("createdb"), *words], check=True, cwd=name)
            yield f"postgresql+psycopg://{owner}@127.0.0.1:{port}"
        finally:
            subprocess.run(
                [*server, "-m", "immediate", "stop"],
                check=True, stdout=subprocess.DEVNULL, cwd=name, **who,
            )  # fmt: skip
