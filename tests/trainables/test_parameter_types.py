"""Every parameter of every family has one type, and the boundary lies below all that is trained."""

import copy
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from small_encoders import KINDS, LAYERS, PUBLISHED, published, save_small
from torch import nn
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor

from wav2bold.config import PARAMETER_TYPES, ParameterType
from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import Boundary, Encoder, heard, load_encoder, prefix
from wav2bold.trainables.families import convolved
from wav2bold.trainables.parameter_types import boundary_of, parameter_type, unfrozen_names

BOUNDARIES = [Boundary("audio"), Boundary("conv"), *(Boundary("layer", n) for n in range(LAYERS + 1))]


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small(tmp_path_factory.mktemp(request.param), request.param)))


def frame(model: PreTrainedModel) -> Encoder:
    """An encoder of which only names and shapes are asked."""
    return Encoder("published", model, Wav2Vec2FeatureExtractor(), "")


# Types of the published encoders, listed by hand

PROJECTIONS = ["attention.k_proj", "attention.v_proj", "attention.q_proj", "attention.out_proj"]
DENSE = ["feed_forward.intermediate_dense", "feed_forward.output_dense"]
OF_A_LAYER = {
    "attention": [f"{module}.weight" for module in PROJECTIONS],
    "feed_forward": [f"{module}.weight" for module in DENSE],
    "layer_norm": [
        f"{norm}.{part}" for norm in ("layer_norm", "final_layer_norm") for part in ("weight", "bias")
    ],
    "bias": [f"{module}.bias" for module in PROJECTIONS + DENSE],
}
OF_WAVLMS_LAYERS = {
    "attention": ["attention.gru_rel_pos_const", "attention.gru_rel_pos_linear.weight"],
    "bias": ["attention.gru_rel_pos_linear.bias"],
}
WEIGHT_NORM = "encoder.pos_conv_embed.conv.parametrizations.weight.original"


def listed(name: str) -> dict[str, set[str]]:
    """Names of each type but `conv` in a published encoder."""
    family, own, _ = PUBLISHED[name]
    types: dict[str, set[str]] = {
        "projection": {"masked_spec_embed", "feature_projection.projection.weight"},
        "layer_norm": {
            f"{norm}.{part}"
            for norm in ("feature_projection.layer_norm", "encoder.layer_norm")
            for part in ("weight", "bias")
        },
        "bias": {"feature_projection.projection.bias"},
        "positional": {f"{WEIGHT_NORM}{number}" for number in (0, 1)},
        "attention": set(),
        "feed_forward": set(),
    }
    if family == "data2vec-audio":
        stack = [f"encoder.pos_conv_embed.layers.{number}.conv" for number in range(5)]
        types["positional"] = {f"{module}.weight" for module in stack}
        types["bias"] |= {f"{module}.bias" for module in stack}
    else:
        types["bias"].add("encoder.pos_conv_embed.conv.bias")
    for layer in range(own.get("num_hidden_layers", 12)):
        for of_a_layer in [OF_A_LAYER, OF_WAVLMS_LAYERS] if family == "wavlm" else [OF_A_LAYER]:
            for kind, names in of_a_layer.items():
                types[kind] |= {f"encoder.layers.{layer}.{parameter}" for parameter in names}
    if family == "wavlm":
        types["attention"].add("encoder.layers.0.attention.rel_attn_embed.weight")
    return types


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_shapes_are_those_that_were_published(name: str) -> None:
    count = sum(parameter.numel() for parameter in published(name).parameters())
    assert count == pytest.approx(PUBLISHED[name][2] * 1e6, rel=0.01)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_parameter_of_the_published_encoders_has_the_type_in_the_list(name: str) -> None:
    names = [parameter for parameter, _ in published(name).named_parameters()]
    truth = {kind: set(members) for kind, members in listed(name).items()}
    truth["conv"] = {parameter for parameter in names if parameter.startswith("feature_extractor.")}
    assert truth.keys() == set(PARAMETER_TYPES)
    found = {
        kind: {parameter for parameter in names if parameter_type(parameter)[0] == kind} for kind in truth
    }
    assert found == truth
    assert sum(len(members) for members in truth.values()) == len(names)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_range_of_a_published_encoder_is_its_layers_and_nothing_else(name: str) -> None:
    model = published(name)
    layers = len(model.encoder.layers)
    types = listed(name)
    for first, last in ((0, 0), (1, 3), (layers - 2, layers - 1)):
        inside = tuple(f"encoder.layers.{layer}." for layer in range(first, last + 1))
        for kind in ("attention", "feed_forward", "layer_norm", "bias"):
            names = unfrozen_names(frame(model), {kind: (first, last)})
            assert set(names) == {parameter for parameter in types[kind] if parameter.startswith(inside)}
            assert boundary_of(frame(model), names) == Boundary("layer", first)


# Types by what the modules are


def truth_of_types(model: PreTrainedModel) -> dict[str, str]:
    """Type of each parameter by the class of the module that owns it, not by its name."""
    owners = {
        f"{path}.{name}".removeprefix("."): (path, name, module)
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    types = {}
    for full, (path, name, module) in owners.items():
        if path.startswith("feature_extractor"):
            types[full] = "conv"
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            types[full] = "layer_norm"
        elif name == "bias":
            types[full] = "bias"
        elif path.endswith("feature_projection.projection") or full == "masked_spec_embed":
            types[full] = "projection"
        elif isinstance(module, nn.Conv1d) or "parametrizations" in path:
            types[full] = "positional"  # above the feature extractor
        elif ".attention" in path:
            types[full] = "attention"
        else:
            assert isinstance(module, nn.Linear)
            types[full] = "feed_forward"
    return types


def test_every_parameter_has_the_type_of_its_module(encoder: Encoder) -> None:
    truth = truth_of_types(encoder.model)
    assert set(truth) == {name for name, _ in encoder.model.named_parameters()}
    assert {name: parameter_type(name)[0] for name in truth} == truth
    assert set(truth.values()) == set(PARAMETER_TYPES)


def test_types_together_unfreeze_everything_that_is_used_and_share_nothing(encoder: Encoder) -> None:
    by_type = {kind: set(unfrozen_names(encoder, {kind: None})) for kind in PARAMETER_TYPES}
    for one, two in combinations(PARAMETER_TYPES, 2):
        assert not by_type[one] & by_type[two]
    every = {name for name, _ in encoder.model.named_parameters()}
    assert set.union(*by_type.values()) == every - {"masked_spec_embed"}


@pytest.mark.parametrize("kind", ["attention", "feed_forward", "layer_norm", "bias"])
def test_a_range_unfreezes_its_layers_and_nothing_below_or_above(
    encoder: Encoder, kind: ParameterType
) -> None:
    names = unfrozen_names(encoder, {kind: (1, 2)})
    everywhere = unfrozen_names(encoder, {kind: None})
    wanted = [n for n in everywhere if n.startswith(("encoder.layers.1.", "encoder.layers.2."))]
    assert names == wanted
    assert {name.split(".")[2] for name in names} == {"1", "2"}


# Mistakes


def test_a_range_that_leaves_the_encoder_is_refused(encoder: Encoder) -> None:
    with pytest.raises(EncoderError) as raised:
        unfrozen_names(encoder, {"attention": (1, 3)})
    assert str(raised.value) == (
        f"unfrozen.attention: there is no layer 3 in {encoder.name}; its last layer is 2"
    )


@pytest.mark.parametrize("kind", ["conv", "projection", "positional"])
def test_a_range_for_what_has_no_layers_is_refused(encoder: Encoder, kind: ParameterType) -> None:
    with pytest.raises(EncoderError) as raised:
        unfrozen_names(encoder, {kind: (0, 1)})
    assert str(raised.value) == f"unfrozen.{kind} lies below the layers; write null in place of its range"


@pytest.mark.parametrize("kind", ["attention", "feed_forward"])
def test_a_type_that_the_encoder_lacks_is_refused_with_those_it_has(kind: ParameterType) -> None:
    model = published("facebook/wav2vec2-base")
    model.encoder.layers = nn.ModuleList()
    with pytest.raises(EncoderError) as raised:
        unfrozen_names(frame(model), {"bias": None, kind: None})
    assert str(raised.value) == (
        f"unfrozen.{kind}: published has no such parameters; "
        "it has conv, projection, positional, layer_norm, bias"
    )


@pytest.mark.parametrize("name", ["decoder.blocks.0.weight", "weight"])
def test_a_parameter_that_no_family_has_is_named(name: str) -> None:
    with pytest.raises(EncoderError) as raised:
        parameter_type(name)
    assert str(raised.value) == f"parameter {name} is of no known type; give an encoder of a known family"


# Boundaries


def touched(encoder: Encoder) -> dict[Boundary, set[str]]:
    """Parameters that each boundary's output depends on, as autograd traces them."""
    model = copy.deepcopy(encoder.model).requires_grad_(True)
    traced = replace(encoder, model=model)
    named = dict(model.named_parameters())
    random = np.random.default_rng(0)
    audio = torch.from_numpy(random.standard_normal((1, 4000)).astype(np.float32))
    reached: dict[Boundary, set[str]] = {Boundary("audio"): set()}
    for boundary in BOUNDARIES[1:]:
        output = prefix(traced, boundary, convolved(model, heard(traced, audio)))
        gradients = torch.autograd.grad(output.square().sum(), list(named.values()), allow_unused=True)
        reached[boundary] = {
            name for name, gradient in zip(named, gradients, strict=True) if gradient is not None
        }
    return reached


def test_the_boundary_is_the_highest_that_no_unfrozen_parameter_reaches(encoder: Encoder) -> None:
    reached = touched(encoder)
    names = [name for name, _ in encoder.model.named_parameters() if name != "masked_spec_embed"]
    assert reached[BOUNDARIES[-1]] == set(names)
    random = np.random.default_rng(0)
    several = [list(random.choice(names, 3, replace=False)) for _ in range(30)]
    for unfrozen in [*([name] for name in names), *several]:
        highest = [boundary for boundary in BOUNDARIES if not reached[boundary] & set(unfrozen)][-1]
        assert boundary_of(encoder, unfrozen) == highest, unfrozen


def test_with_nothing_unfrozen_the_boundary_is_the_encoders_output(encoder: Encoder) -> None:
    assert boundary_of(encoder, []) == Boundary("layer", LAYERS)
