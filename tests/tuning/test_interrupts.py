"""Ctrl-C waits for what must not be torn, and is not forgotten."""

import signal
import threading

import pytest

from wav2bold.tuning.interrupts import interrupts_held


def test_an_interrupt_comes_at_the_end_and_once() -> None:
    done = []

    def work() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]


def test_an_inner_hold_hands_the_interrupt_to_the_outer() -> None:
    done = []

    def work() -> None:
        with interrupts_held():
            with interrupts_held():
                signal.raise_signal(signal.SIGINT)
            done.append("after the inner")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["after the inner"]


def test_without_an_interrupt_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_held():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_may_hold_too() -> None:
    done = []

    def work() -> None:
        with interrupts_held():
            done.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]
