"""What tests of SUPERB's heads of single frames share: a core of their own, and a death at a look at dev."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from wav2bold.trainables.superb import learning

LOOKS = 3
"""At the dev set, after which the process dies."""


@contextmanager
def on_one_core() -> Iterator[None]:
    """Small steps of an LSTM wait for each other on two cores, ten times as long as they take on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def dies_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on learning is interrupted after LOOKS looks, once. A list that grows by each begun look."""
    looks, look = list[int](), learning._look

    def killed(*given: object) -> None:
        looks.append(len(looks))
        if len(looks) == LOOKS + 1:
            raise KeyboardInterrupt
        look(*given)

    monkeypatch.setattr(learning, "_look", killed)
    return looks
