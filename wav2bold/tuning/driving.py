"""One driver at a time: who drives a study's sweep holds a lock in its results folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wav2bold.config import Study
from wav2bold.errors import TrackingError
from wav2bold.places import written
from wav2bold.trainables.locks import Lock, take


@contextmanager
def only_driver(study: Study) -> Iterator[None]:
    """The right to drive a sweep of this study into its results folder; it ends with our process.

    Raises TrackingError if another process has it. On a disk that has no locks everybody gets it.
    """
    path = _lock_of(study)
    with written(path, "results folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    with file:
        if take(file) is Lock.OTHERS:
            raise TrackingError(
                f"a sweep of {study.name} into {study.results} is running already",
                "wait for it, or give this one another `name` or `results`",
            )
        yield


def is_driven(study: Study) -> bool | None:
    """Whether a process drives a sweep of this study into its results folder; None where nothing tells."""
    try:
        with _lock_of(study).open("r+b") as file:
            return {Lock.OTHERS: True, Lock.HELD: False}.get(take(file))
    except OSError:  # it was never driven from here, or the folder may not be written
        return None


def _lock_of(study: Study) -> Path:
    """What a sweep's driver holds while it lives."""
    return study.results / f".{study.name}.sweep.lock"
