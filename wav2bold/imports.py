"""Imports of what is large, at two thirds of the time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """While this holds, nothing that is made is looked through for garbage, nor at once afterwards.

    torch, transformers, MLflow and Ray make 1.5 million objects, and all of them stay: Python's collector
    goes through them again and again, for 1.5 s of the 5 s of processor time that their import takes.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()  # and back: all of it counts as old then, so that the next look is at little
            gc.unfreeze()
        if collecting:
            gc.enable()
