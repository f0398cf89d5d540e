"""A trial's store is the one that the study file describes."""

from pathlib import Path

import numpy as np
import torch

from wav2bold.config import Activations, Split, Study
from wav2bold.tuning.trial import activation_store


def test_activations_are_stored_as_the_study_says(tmp_path: Path) -> None:
    study = Study(
        name="x",
        shards=tmp_path,
        encoder="x",
        split=Split(validation=("a",), test=("b",)),
        results=tmp_path / "results",
        activations=Activations(max_gb=6e-5, dtype="bfloat16"),
    )
    third = np.full((100, 100), 1 / 3, np.float32)
    for number in range(9):
        tensor = activation_store(study).tensor({"number": number}, third.shape, lambda: iter([third]))
        assert torch.equal(tensor, torch.full((100, 100), 1 / 3, dtype=torch.bfloat16))
        del tensor
    stored = list((tmp_path / "results" / "activations").rglob("*.safetensors"))
    assert 1 <= len(stored) <= 2  # of 20 kB each
