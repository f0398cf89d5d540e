"""A second interpreter that draws maps of the brain while the first does something else.

nilearn takes as long to import as all charts of a page take to draw: on two cores the two are done at once.
"""

import os
import pickle
import subprocess
import sys
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # it begins before anything heavy is imported here
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from wav2bold.pages.brains import Scale


class Painter:
    """Draws maps in the order in which they are asked for. Begins at the first, or when it is told to."""

    def __init__(self) -> None:
        self._waiting = ThreadPoolExecutor(1)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
        self._waiting.shutdown(cancel_futures=True)
        if self._process is not None:
            self._process.communicate()

    def begin(self) -> None:
        """Let it import what it needs."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt is the first one's to tell about
        )

    def draw(self, targets: "pd.DataFrame", values: "NDArray[np.float64]", scale: "Scale") -> Future[bytes]:
        """The `brain_map` of these."""
        self.begin()
        return self._waiting.submit(self._ask, targets, values, scale)

    def _ask(self, targets: "pd.DataFrame", values: "NDArray[np.float64]", scale: "Scale") -> bytes:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((targets, values, scale), process.stdin)
            process.stdin.flush()
            answer = pickle.load(process.stdout)  # noqa: S301  # of our own process
        except (EOFError, BrokenPipeError):
            raise RuntimeError(f"the interpreter that draws maps ended with {process.wait()}") from None
        if isinstance(answer, bytes):
            return answer
        raise RuntimeError(f"a map was not drawn:\n{answer}")


def paint() -> None:
    """Answer what standard input asks for, until it ends: with a PNG, or a traceback."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    from wav2bold.pages.brains import brain_map, load

    load()
    while True:
        try:
            asked = pickle.load(sys.stdin.buffer)  # noqa: S301  # of our own process
        except EOFError:
            return
        answer: bytes | str
        try:
            answer = brain_map(*asked)
        except Exception:  # noqa: BLE001  # raised again where it was asked for
            answer = traceback.format_exc()
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    paint()
