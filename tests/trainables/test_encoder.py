"""The encoder's parts give what transformers' own forward gives, and every parameter has one name."""

import copy
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import RATE_HZ, save_small_wav2vec2
from torch import nn
from transformers import AutoFeatureExtractor, BertConfig, Wav2Vec2Model, WhisperFeatureExtractor

from wav2bold.config import PARAMETER_TYPES, ParameterType
from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import (
    Boundary,
    Encoder,
    boundary_of,
    convolved,
    heard,
    load_encoder,
    parameter_type,
    prefix,
    save_encoder,
    suffix,
    unfrozen_names,
)

LAYERS = 3
BOUNDARIES = [Boundary("audio"), Boundary("conv"), *(Boundary("layer", n) for n in range(LAYERS + 1))]
KINDS = [(family, normalized) for family in ("base", "large") for normalized in (True, False)]


@pytest.fixture(
    scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{'normalized' if kind[1] else 'raw'}"
)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    family, normalized = request.param
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), family, normalized)))


@pytest.fixture(scope="module", params=["base", "large"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), request.param)))


def sounds(count: int = 3, samples: int = 24_000) -> np.ndarray:
    random = np.random.default_rng(0)
    sound = 0.05 * random.standard_normal((count, samples)) * np.array([1, 0.1, 3])[:count, None]
    return (sound + 0.01).astype(np.float32)


def transformers_own(encoder: Encoder, audio: np.ndarray) -> torch.Tensor:
    """Last hidden states by a fresh model and feature extractor read from the encoder's folder."""
    extractor = AutoFeatureExtractor.from_pretrained(encoder.name)
    inputs = extractor(list(audio), sampling_rate=RATE_HZ, return_tensors="pt").input_values
    model = Wav2Vec2Model.from_pretrained(encoder.name).eval()
    with torch.no_grad():
        return model(inputs).last_hidden_state


def below(encoder: Encoder, boundary: Boundary, audio_BS: torch.Tensor) -> torch.Tensor:
    """What a store would hold at the boundary."""
    if boundary.at == "audio":
        return audio_BS
    return prefix(encoder, boundary, convolved(encoder.model, heard(encoder, audio_BS)))


def test_windows_are_normalised_as_the_feature_extractor_does(encoder: Encoder) -> None:
    audio = sounds()
    extractor = AutoFeatureExtractor.from_pretrained(encoder.name)
    theirs = extractor(list(audio), sampling_rate=RATE_HZ, return_tensors="pt").input_values
    ours = heard(encoder, torch.from_numpy(audio))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_prefix_and_suffix_give_the_models_own_output(encoder: Encoder, boundary: Boundary) -> None:
    audio = sounds()
    with torch.no_grad():
        ours = suffix(encoder, encoder.model, boundary, below(encoder, boundary, torch.from_numpy(audio)))
    theirs = transformers_own(encoder, audio)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_frames_are_as_many_as_the_model_makes(either: Encoder) -> None:
    for samples in (400, 719, 720, 24_000, 24_001, 143_999):
        audio = torch.zeros(1, samples)
        assert convolved(either.model, audio).shape[1] == either.frames(samples)


def test_a_frame_hears_its_receptive_field_and_nothing_else(tmp_path: Path) -> None:
    """Of the model with layer norms, in which convolutions are local."""
    encoder = load_encoder(str(save_small_wav2vec2(tmp_path, "large", do_normalize=False)))
    assert encoder.convolution_is_local
    audio = torch.from_numpy(sounds(1)).requires_grad_()
    convolved(encoder.model, audio)[0, 10].square().sum().backward()
    heard_samples = torch.nonzero(audio.grad[0]).flatten()
    assert heard_samples[0] == 10 * encoder.stride
    assert heard_samples[-1] == 10 * encoder.stride + encoder.receptive_field - 1


def test_convolutions_under_a_norm_over_time_are_not_called_local(encoder: Encoder) -> None:
    """By experiment: does the first frame change when the end of the window does?"""
    audio = torch.from_numpy(sounds(1))
    louder = audio.clone()
    louder[:, 12_000:] *= 5
    with torch.no_grad():
        one, two = (convolved(encoder.model, heard(encoder, sound))[0, 0] for sound in (audio, louder))
    assert encoder.convolution_is_local == torch.equal(one, two)


# Types of parameters


def truth_of_types(model: Wav2Vec2Model) -> dict[str, str]:
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
        elif isinstance(module, nn.LayerNorm):
            types[full] = "layer_norm"
        elif name == "bias":
            types[full] = "bias"
        elif path.endswith("feature_projection.projection") or full == "masked_spec_embed":
            types[full] = "projection"
        elif isinstance(module, nn.Linear):
            types[full] = "attention" if ".attention." in path else "feed_forward"
        else:
            types[full] = "positional"  # a convolution with a weight norm, above the feature extractor
    return types


def test_every_parameter_has_the_type_of_its_module(either: Encoder) -> None:
    truth = truth_of_types(either.model)
    assert set(truth) == {name for name, _ in either.model.named_parameters()}
    assert {name: parameter_type(name)[0] for name in truth} == truth
    assert set(truth.values()) == set(PARAMETER_TYPES)


def test_types_together_unfreeze_everything_that_is_used_and_share_nothing(either: Encoder) -> None:
    by_type = {kind: set(unfrozen_names(either, {kind: None})) for kind in PARAMETER_TYPES}
    for one, two in combinations(PARAMETER_TYPES, 2):
        assert not by_type[one] & by_type[two]
    every = {name for name, _ in either.model.named_parameters()}
    assert set.union(*by_type.values()) == every - {"masked_spec_embed"}


@pytest.mark.parametrize("kind", ["attention", "feed_forward", "layer_norm", "bias"])
def test_a_range_unfreezes_its_layers_and_nothing_below_or_above(
    either: Encoder, kind: ParameterType
) -> None:
    names = unfrozen_names(either, {kind: (1, 2)})
    everywhere = unfrozen_names(either, {kind: None})
    wanted = [n for n in everywhere if n.startswith(("encoder.layers.1.", "encoder.layers.2."))]
    assert names == wanted
    assert {name.split(".")[2] for name in names} == {"1", "2"}


def test_a_range_that_leaves_the_encoder_is_refused(either: Encoder) -> None:
    with pytest.raises(EncoderError) as raised:
        unfrozen_names(either, {"attention": (1, 3)})
    assert str(raised.value) == (
        f"unfrozen.attention: there is no layer 3 in {either.name}; its last layer is 2"
    )


@pytest.mark.parametrize("kind", ["conv", "projection", "positional"])
def test_a_range_for_what_has_no_layers_is_refused(either: Encoder, kind: ParameterType) -> None:
    with pytest.raises(EncoderError) as raised:
        unfrozen_names(either, {kind: (0, 1)})
    assert str(raised.value) == f"unfrozen.{kind} lies below the layers; write null in place of its range"


def test_a_parameter_that_wav2vec2_lacks_is_named() -> None:
    with pytest.raises(EncoderError) as raised:
        parameter_type("decoder.blocks.0.weight")
    assert (
        str(raised.value) == "parameter decoder.blocks.0.weight is of no known type; give a wav2vec2 encoder"
    )


# Boundaries


def touched(encoder: Encoder) -> dict[Boundary, set[str]]:
    """Parameters that each boundary's output depends on, as autograd traces them."""
    model = copy.deepcopy(encoder.model).requires_grad_(True)
    traced = Encoder(encoder.name, model, encoder.extractor, encoder.digest)
    named = dict(model.named_parameters())
    reached: dict[Boundary, set[str]] = {Boundary("audio"): set()}
    for boundary in BOUNDARIES[1:]:
        output = below(traced, boundary, torch.from_numpy(sounds(1, 4000)))
        gradients = torch.autograd.grad(output.square().sum(), list(named.values()), allow_unused=True)
        reached[boundary] = {
            name for name, gradient in zip(named, gradients, strict=True) if gradient is not None
        }
    return reached


def test_the_boundary_is_the_highest_that_no_unfrozen_parameter_reaches(either: Encoder) -> None:
    reached = touched(either)
    names = [name for name, _ in either.model.named_parameters() if name != "masked_spec_embed"]
    random = np.random.default_rng(0)
    several = [list(random.choice(names, 3, replace=False)) for _ in range(30)]
    for unfrozen in [*([name] for name in names), *several]:
        highest = [boundary for boundary in BOUNDARIES if not reached[boundary] & set(unfrozen)][-1]
        assert boundary_of(either, unfrozen) == highest, unfrozen


def test_with_nothing_unfrozen_the_boundary_is_the_encoders_output(either: Encoder) -> None:
    assert boundary_of(either, []) == Boundary("layer", LAYERS)


# Digests


def test_equal_weights_have_equal_digests(tmp_path: Path) -> None:
    one = load_encoder(str(save_small_wav2vec2(tmp_path / "one")))
    two = load_encoder(str(save_small_wav2vec2(tmp_path / "two")))
    save_encoder(tmp_path / "three", one.model, one.extractor)
    assert one.digest == two.digest == load_encoder(str(tmp_path / "three")).digest


def test_another_weight_normalisation_or_shape_is_another_digest(tmp_path: Path) -> None:
    digests = [load_encoder(str(save_small_wav2vec2(tmp_path / "0"))).digest]
    digests.append(load_encoder(str(save_small_wav2vec2(tmp_path / "1", do_normalize=False))).digest)
    digests.append(load_encoder(str(save_small_wav2vec2(tmp_path / "2", layer_norm_eps=1e-3))).digest)
    model = Wav2Vec2Model.from_pretrained(tmp_path / "0")
    with torch.no_grad():
        model.encoder.layers[2].attention.k_proj.weight[0, 0] += 1e-6
    save_encoder(tmp_path / "3", model, AutoFeatureExtractor.from_pretrained(tmp_path / "0"))
    digests.append(load_encoder(str(tmp_path / "3")).digest)
    assert len(set(digests)) == 4


# Mistakes


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def no_pickle(folder: Path) -> None:
    without_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")


def half_a_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "wav2')


def a_word_for_a_number(folder: Path) -> None:
    change(folder / "config.json", hidden_size="many")


def convolutions_that_do_not_match(folder: Path) -> None:
    change(folder / "config.json", conv_dim=[12])


def without_a_preprocessor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_weights, "no file named model.safetensors"),
        (truncated, "incomplete metadata"),
        (empty, "header too small"),
        (no_pickle, "Weights only load failed"),
        (half_a_config, "not a valid JSON file"),
        (a_word_for_a_number, "'hidden_size' expected int"),
        (convolutions_that_do_not_match, "Configuration for convolutional layers is incorrect"),
        (without_a_preprocessor, "Can't load feature extractor"),
    ],
)
def test_a_folder_that_is_damaged_is_named_with_the_reason_on_one_line(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(save_small_wav2vec2(tmp_path))
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    message = str(raised.value)
    assert message.startswith(f"encoder {tmp_path} can't be loaded (")
    assert reason in message
    assert "give a folder that save_pretrained wrote" in message
    assert "\n" not in message
    assert raised.value.__suppress_context__


def test_a_hub_name_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Offline, as the hub's own switch has it; the library reads that switch when it is imported."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError) as raised:
        load_encoder("nobody-at-all/wav2vec2-base")
    message = str(raised.value)
    assert message.startswith("encoder nobody-at-all/wav2vec2-base can't be loaded (")
    assert message.endswith("or a hub name where the hub can be reached")
    assert "\n" not in message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path / "encodr"))
    assert str(raised.value) == (
        f"encoder {tmp_path / 'encodr'}: no such folder; give a folder that save_pretrained wrote"
    )


def test_another_kind_of_model_is_named(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    assert str(raised.value) == f"{tmp_path}: a bert, not a wav2vec2; give a wav2vec2 encoder"


def test_another_sampling_rate_is_refused(tmp_path: Path) -> None:
    change(save_small_wav2vec2(tmp_path) / "preprocessor_config.json", sampling_rate=8000)
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}: hears 8000 Hz, the shards hold 16000 Hz; give an encoder for 16 kHz speech"
    )


def test_another_preprocessor_is_refused(tmp_path: Path) -> None:
    WhisperFeatureExtractor().save_pretrained(save_small_wav2vec2(tmp_path))
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}: its preprocessor_config.json is of a WhisperFeatureExtractor; "
        "give that of a Wav2Vec2FeatureExtractor"
    )


def test_weights_that_a_config_asks_for_and_that_are_absent_are_named(tmp_path: Path) -> None:
    change(save_small_wav2vec2(tmp_path) / "config.json", num_hidden_layers=4)
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}: its weights lack encoder.layers.3.attention.k_proj.bias; download the encoder again"
    )


def test_weights_of_another_size_are_named(tmp_path: Path) -> None:
    change(save_small_wav2vec2(tmp_path) / "config.json", intermediate_size=48)
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}: encoder.layers.0.feed_forward.intermediate_dense.bias is 24, config.json asks for 48; "
        "download the encoder again"
    )


def test_an_adapter_on_top_is_refused(tmp_path: Path) -> None:
    """Its output would be left out of what the head reads."""
    save_small_wav2vec2(tmp_path, add_adapter=True)
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}: has an adapter on top, which is not refined; set add_adapter to false"
    )
