"""Maps that a second interpreter draws are those that the first would draw, and its failures are told."""

import os
import signal

import numpy as np
import pandas as pd
import pytest

from wav2bold.pages.brains import amount_scale, brain_map, score_scale
from wav2bold.pages.painter import Painter

TARGETS = pd.DataFrame({"hemisphere": ["L", "L", "L", "R"], "vertex": np.array([200, 201, 202, 300], "i4")})
VALUES = np.array([0.1, 0.5, np.nan, 0.3])


def test_maps_are_those_that_would_be_drawn_here() -> None:
    scales = [score_scale(VALUES), amount_scale(100 * VALUES)]
    with Painter() as painter:
        drawn = [painter.draw(TARGETS, VALUES, scale) for scale in scales]
        assert [one.result() for one in drawn] == [brain_map(TARGETS, VALUES, scale) for scale in scales]


def test_a_map_that_can_not_be_drawn_is_told_with_its_reason_and_the_next_is_drawn() -> None:
    scale = score_scale(VALUES)
    with Painter() as painter:
        wrong = painter.draw(TARGETS.drop(columns="hemisphere"), VALUES, scale)
        right = painter.draw(TARGETS, VALUES, scale)
        with pytest.raises(RuntimeError, match=r"(?s)a map was not drawn:.*KeyError: 'hemisphere'"):
            wrong.result()
        assert right.result().startswith(b"\x89PNG")


def test_an_interpreter_that_was_killed_is_waited_for_no_longer() -> None:
    with Painter() as painter:
        painter.begin()
        assert painter._process is not None
        os.kill(painter._process.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="the interpreter that draws maps ended with -9"):
            painter.draw(TARGETS, VALUES, score_scale(VALUES)).result()


def test_nothing_is_left_running_when_the_work_before_the_maps_fails() -> None:
    painter = Painter()
    with pytest.raises(ValueError, match="a recording is damaged"), painter:  # noqa: PT012
        drawn = painter.draw(TARGETS, VALUES, score_scale(VALUES))
        raise ValueError("a recording is damaged")
    assert painter._process is not None
    assert painter._process.returncode == -signal.SIGKILL
    assert isinstance(drawn.exception(), RuntimeError)
