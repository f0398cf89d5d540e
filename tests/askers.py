"""Who asks an activation store for an array, from processes of their own, and how often it was computed."""

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import safe_open

from wav2bold.trainables.activations import ActivationStore

FORK = multiprocessing.get_context("fork")
PATIENCE_S = 60
ADDRESS = {"encoder": "abc", "of": "layer2", "samples": 144_000}
SHAPE = (6, 3, 2)
ROWS, WIDTH = 10, 1000
"""Size of arrays that hold nothing but their number."""
TRUTH = (np.arange(36, dtype=np.float32) - 7.25).reshape(SHAPE)


class Counted:
    """Gives the truth in pieces of some rows and counts, in a file, how often it was asked to."""

    def __init__(self, folder: Path, pause_s: float = 0.0, rows: int = 2) -> None:
        self.log = folder / "computed.log"
        self.pause_s = pause_s
        self.rows = rows

    def __call__(self) -> Iterator[np.ndarray]:
        with self.log.open("a") as log:
            log.write("x")
        for first in range(0, len(TRUTH), self.rows):
            time.sleep(self.pause_s)
            yield TRUTH[first : first + self.rows]

    @property
    def times(self) -> int:
        return len(self.log.read_text()) if self.log.exists() else 0


class Other:
    """A process that runs `work(tell, *given)`; `tell` sends what `hear` gives, and waits if asked to.

    The process waits in `tell(..., wait=True)` until `go_on`. At the end it is killed if it still lives.
    """

    def __init__(self, work: Callable[..., None], *given: Any) -> None:
        self._said = FORK.Queue()
        self._go_on = FORK.Event()
        self.process = FORK.Process(target=work, args=(self._tell, *given))

    def _tell(self, what: object, *, wait: bool = False) -> None:
        self._said.put(what)
        if wait:
            assert self._go_on.wait(PATIENCE_S)

    def hear(self) -> Any:
        return self._said.get(timeout=PATIENCE_S)

    def go_on(self) -> None:
        self._go_on.set()

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()


def again(store: ActivationStore) -> ActivationStore:
    """The store as another process has it, or a later one."""
    return ActivationStore(store.folder, dtype=store.dtype)


def the_file(store: ActivationStore) -> Path:
    """Its only array."""
    (path,) = store.folder.rglob("*.safetensors")
    return path


def left_over(store: ActivationStore) -> list[str]:
    """Files that are neither arrays nor the store's own two."""
    files = [path for path in store.folder.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    return [path.name for path in files if path.name not in ("held", "room.lock")]


def refuses() -> Iterator[np.ndarray]:
    """In place of a computation that must not be made."""
    raise AssertionError("was computed again")


def numbered(store: ActivationStore, number: int, rows: int = ROWS) -> np.ndarray:
    """An array of nothing but `number`, from the store."""
    values = np.full((rows, WIDTH), number, np.float32)
    array = store.array({"number": number}, values.shape, lambda: iter([values]))
    assert (array == number).all()
    return array


def kept(store: ActivationStore) -> dict[int, Path]:
    """Files of the numbered arrays."""
    found = {}
    for path in store.folder.rglob("*.safetensors"):
        with safe_open(path, "np") as file:
            found[json.loads(file.metadata()["address"])["number"]] = path
    return found
