"""What a map of the brain leaves out is what can't be seen."""

import numpy as np
import pandas as pd
import pytest

from wav2bold.pages import brains


def test_faces_that_are_not_drawn_would_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    vertices = np.sort(random.choice(brains.MESH_VERTICES, (2, 6000)), axis=1).ravel()
    targets = pd.DataFrame({"hemisphere": np.repeat(["L", "R"], 6000), "vertex": vertices})
    values = random.random(len(targets))
    scale = brains.score_scale(values)
    fewer = brains.brain_map(targets, values, scale)
    drawn = {name: len(side.faces) for name, side in brains._outer_sides().items()}
    monkeypatch.setattr(brains, "TURNED_AWAY", -2.0)
    brains._outer_sides.cache_clear()
    try:
        assert brains.brain_map(targets, values, scale) == fewer
        for name, side in brains._outer_sides().items():
            assert drawn[name] < 0.7 * len(side.faces)
    finally:
        brains._outer_sides.cache_clear()
