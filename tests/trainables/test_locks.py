"""Turns are taken one at a time, but nobody waits for ever."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from askers import Other

from wav2bold.trainables import locks
from wav2bold.trainables.locks import Lock, share, take, turn


def hold(tell: Callable[..., None], path: Path) -> None:
    with turn(path):
        tell("held", wait=True)
    tell("done", wait=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "turn.lock"


def test_a_turn_comes_when_its_holder_is_done_or_dead(path: Path) -> None:
    for end in (Other.go_on, lambda other: other.process.kill()):
        with Other(hold, path) as other:
            assert other.hear() == "held"
            with Other(hold, path) as waiting:
                end(other)
                assert waiting.hear() == "held"


def test_a_holder_is_waited_for_while_it_makes_progress_and_no_longer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALLED_S", 0.2)
    seen: Iterator[int] = iter([1, 2, 3, 3, 4])
    with Other(hold, path) as other:
        other.hear()
        with turn(path, lambda: next(seen)):
            assert list(seen) == [4]
    with turn(path, lambda: next(seen)):  # and when it is free, nothing is asked
        pass


def test_a_disk_without_locks_lets_everybody_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", none)
    with turn(path), turn(path), path.open("rb+") as file:
        assert take(file) is Lock.NONE
        assert share(file) is Lock.NONE


def test_another_error_than_the_want_of_locks_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", broken)
    with pytest.raises(OSError, match="Input/output"), turn(path):
        pass


def test_many_share_and_then_nobody_may_take(path: Path) -> None:
    path.touch()
    with path.open("rb+") as one, path.open("rb+") as two, path.open("rb+") as third:
        assert share(one) is share(two) is Lock.HELD
        assert take(third) is Lock.OTHERS
        one.close()
        assert take(third) is Lock.OTHERS
        two.close()
        assert take(third) is Lock.HELD
