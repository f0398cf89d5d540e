"""Locks of a shared disk: whose turn it is, and what is in use.

They are flock's. A lock ends with the process that holds it, however that ends. NFS carries it to all nodes
(flock(2), "NFS details") unless it is mounted with `nolock` or `local_lock`; some network disks have none.
"""

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

STALLED_S = 900.0
"""How long a holder may show no progress before others go on without it: it was stopped, or its node is lost.
NFS 3 keeps a lost node's locks until it is back; a step of work takes seconds to minutes."""
POLL_S = 0.1
CONTENTION = {errno.EAGAIN, errno.EACCES}
"""What a disk says of a lock that another holds."""
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What a disk without locks says."""


class Lock(Enum):
    """What became of a lock that was asked for."""

    HELD = "ours"
    OTHERS = "another holds it"
    NONE = "the disk has no locks"


def take(file: IO[bytes]) -> Lock:
    """Take the exclusive lock of a file, if nobody has one. NFS gives it only of a file open for writing."""
    return _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def share(file: IO[bytes]) -> Lock:
    """Take a shared lock of an open file, or turn ours into one; whoever has the exclusive one is waited for.

    It lasts until the file is closed and nothing of it is mapped any more.
    """
    return _flock(file, fcntl.LOCK_SH)


def _flock(file: IO[bytes], operation: int) -> Lock:
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno in CONTENTION:
            return Lock.OTHERS
        if error.errno in NO_LOCKS:
            return Lock.NONE
        raise
    return Lock.HELD


@contextmanager
def turn(path: Path, progress: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Our turn among all who ask at the lock file `path`; they wait for each other.

    progress: whatever changes while its holder works. A holder that shows none for STALLED_S is waited for no
    longer, and on a disk without locks nobody waits: what is done in a turn must bear company.
    """
    lock = FileLock(path, fallback_to_soft=False, poll_interval=POLL_S)
    seen: object = None
    stalled = False
    while not (lock.is_locked or stalled):
        try:
            lock.acquire(timeout=STALLED_S)
        except Timeout:
            before, seen = seen, [progress()]
            stalled = seen == before
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            break
    try:
        yield
    finally:
        lock.release()
