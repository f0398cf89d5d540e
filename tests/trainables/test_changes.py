"""The table of changes says what was done by hand."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoders import KINDS, save_small

from wav2bold.config import PARAMETER_TYPES
from wav2bold.trainables.changes import change_of, changes
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.families import SpeechModel


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small(tmp_path_factory.mktemp("encoder"), request.param)))


@pytest.fixture
def small(tmp_path: Path) -> Encoder:
    return load_encoder(str(save_small(tmp_path, "wav2vec2-base")))


def table(before: SpeechModel, after: SpeechModel) -> dict[tuple[str, int | None], tuple[int, float]]:
    rows = changes(before, after).to_pylist()
    found = {(row["type"], row["layer"]): (row["parameters"], row["change"]) for row in rows}
    assert len(found) == len(rows)
    return found


def test_what_stays_has_not_changed(encoder: Encoder) -> None:
    rows = table(encoder.model, copy.deepcopy(encoder.model))
    assert {change for _, change in rows.values()} == {0.0}


def test_every_parameter_but_the_mask_is_counted_once(encoder: Encoder) -> None:
    rows = table(encoder.model, encoder.model)
    every = sum(value.numel() for name, value in encoder.model.named_parameters() if "mask" not in name)
    assert sum(count for count, _ in rows.values()) == every
    below = {(kind, None) for kind in ("conv", "projection", "positional", "layer_norm", "bias")}
    within = {(kind, layer) for kind in PARAMETER_TYPES[3:] for layer in range(3)}
    assert rows.keys() == below | within


def test_rows_are_in_the_order_of_types_then_of_layers(small: Encoder) -> None:
    found = changes(small.model, small.model).to_pydict()
    places = [
        (PARAMETER_TYPES.index(kind), -1 if layer is None else layer)
        for kind, layer in zip(found["type"], found["layer"], strict=True)
    ]
    assert places == sorted(places)


def test_a_type_made_larger_by_a_tenth_has_changed_by_a_tenth(small: Encoder) -> None:
    after = copy.deepcopy(small.model)
    with torch.no_grad():
        for matrix in ("k_proj", "q_proj", "v_proj", "out_proj"):
            getattr(after.encoder.layers[1].attention, matrix).weight.mul_(1.1)
        after.feature_projection.projection.weight.mul_(-1)
    rows = table(small.model, after)
    assert rows.pop(("attention", 1)) == (4 * 16 * 16, pytest.approx(0.1, rel=1e-5))
    assert rows.pop(("projection", None)) == (12 * 16, pytest.approx(2, rel=1e-5))
    assert {change for _, change in rows.values()} == {0.0}


def test_the_norms_are_over_all_parameters_of_a_type_and_layer(small: Encoder) -> None:
    """By numpy: two of the matrices change, all four are in the denominator."""
    after = copy.deepcopy(small.model)
    layer, was = after.encoder.layers[2].attention, small.model.encoder.layers[2].attention
    with torch.no_grad():
        layer.k_proj.weight[0, 0] += 3
        layer.v_proj.weight[1, 2] -= 4
    flat = [getattr(was, f"{one}_proj").weight.detach().numpy().ravel() for one in ("k", "q", "v", "out")]
    truth = 5 / np.linalg.norm(np.concatenate(flat).astype(np.float64))
    assert table(small.model, after)["attention", 2] == (1024, pytest.approx(truth, rel=1e-5))


def test_a_change_of_what_was_zero_has_no_size(small: Encoder) -> None:
    before = copy.deepcopy(small.model)
    with torch.no_grad():
        for name, value in before.named_parameters():
            if name.endswith(("_proj.bias", "_dense.bias")):
                value.zero_()
    rows = table(before, small.model)
    assert all(math.isnan(rows["bias", layer][1]) for layer in range(3))
    assert sum(math.isnan(change) for _, change in rows.values()) == 3


def test_the_change_of_some_parameters_is_over_those_alone(small: Encoder) -> None:
    after = copy.deepcopy(small.model)
    with torch.no_grad():
        after.encoder.layers[2].attention.k_proj.weight[0, 0] += 3
        after.encoder.layers[1].attention.v_proj.weight[1, 2] -= 4
        after.encoder.layers[0].attention.q_proj.weight += 1
    names = [f"encoder.layers.{layer}.attention.{one}_proj.weight" for layer, one in ((2, "k"), (1, "v"))]
    flat = [dict(small.model.named_parameters())[name].detach().numpy().ravel() for name in names]
    truth = 5 / np.linalg.norm(np.concatenate(flat).astype(np.float64))
    assert change_of(small.model, after, names) == pytest.approx(truth, rel=1e-5)
    assert change_of(small.model, small.model, names) == change_of(small.model, after, []) == 0.0
