"""The encoder's parts give what transformers' own forward gives, in every family and at every boundary."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoders import KINDS, LAYERS, MODELS, RATE_HZ, output_above, save_small
from transformers import AutoFeatureExtractor

from wav2bold.trainables.encoder import Boundary, Encoder, heard, load_encoder, prefix, suffix
from wav2bold.trainables.families import convolved, embedded, through_layers

LOCAL = (
    "wav2vec2-large",
    "wav2vec2-adapted",
    "hubert-large",
    "wavlm-large",
    "data2vec-base",
    "data2vec-lying",
)
"""By what was published: the base sizes, but Data2Vec's, have a group norm over time."""
BOUNDARIES = [Boundary("audio"), Boundary("conv"), *(Boundary("layer", n) for n in range(LAYERS + 1))]


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small(tmp_path_factory.mktemp("encoder"), request.param)))


@pytest.fixture(scope="module", params=KINDS)
def raw(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """One whose feature extractor leaves the sound as it is."""
    return load_encoder(str(save_small(tmp_path_factory.mktemp("raw"), request.param, do_normalize=False)))


def sounds(count: int = 3, samples: int = 24_000) -> torch.Tensor:
    random = np.random.default_rng(0)
    sound = 0.05 * random.standard_normal((count, samples)) * np.array([1, 0.1, 3])[:count, None]
    return torch.from_numpy((sound + 0.01).astype(np.float32))


def inputs_of(encoder: Encoder, audio: torch.Tensor) -> torch.Tensor:
    extractor = AutoFeatureExtractor.from_pretrained(encoder.name)
    return extractor(list(audio.numpy()), sampling_rate=RATE_HZ, return_tensors="pt").input_values


def transformers_own(encoder: Encoder, inputs: torch.Tensor) -> list[torch.Tensor]:
    """What enters each layer, and what leaves the encoder, by a fresh model's own forward."""
    model = MODELS[encoder.model.config.model_type].from_pretrained(encoder.name).eval()
    states: list[torch.Tensor] = []
    for layer in model.encoder.layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: states.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
    with torch.no_grad():
        states.append(model(inputs).last_hidden_state)
    assert len(states) == LAYERS + 1
    return states


def below(encoder: Encoder, boundary: Boundary, audio_BS: torch.Tensor) -> torch.Tensor:
    """What a store would hold at the boundary."""
    if boundary.at == "audio":
        return audio_BS
    return prefix(encoder, boundary, convolved(encoder.model, heard(encoder, audio_BS)))


def test_windows_are_normalised_as_the_feature_extractor_does(encoder: Encoder, raw: Encoder) -> None:
    for one in (encoder, raw):
        torch.testing.assert_close(heard(one, sounds()), inputs_of(one, sounds()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_prefix_and_suffix_give_the_models_own_output(encoder: Encoder, boundary: Boundary) -> None:
    with torch.no_grad():
        ours = output_above(encoder, encoder.model, boundary, below(encoder, boundary, sounds()))
    theirs = transformers_own(encoder, inputs_of(encoder, sounds()))[-1]
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_hidden_states_above_a_boundary_are_those_that_the_model_tells_of(
    encoder: Encoder, boundary: Boundary
) -> None:
    """As `output_hidden_states` has them, but for the last: that is the output, after the norm."""
    with torch.no_grad():
        told = encoder.model(inputs_of(encoder, sounds()), output_hidden_states=True)
        theirs = [*told.hidden_states[:-1], told.last_hidden_state]
        assert len(theirs) == LAYERS + 1
        for numbers in ((0, 1, 2, 3), (1, 3), (0, 2), (3,)):
            there = [number for number in numbers if number >= boundary.layer]
            stored = below(encoder, boundary, sounds())
            ours = suffix(encoder, encoder.model, boundary, stored, there)
            assert len(ours) == len(there)
            for number, state in zip(there, ours, strict=True):
                torch.testing.assert_close(state, theirs[number], atol=5e-5, rtol=1e-5)


def test_what_is_stored_of_a_layer_is_what_the_model_gives_to_it(encoder: Encoder) -> None:
    states = transformers_own(encoder, heard(encoder, sounds()))
    with torch.no_grad():
        for number, theirs in enumerate(states):
            ours = below(encoder, Boundary("layer", number), sounds())
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert len({float(state.std()) for state in states}) == len(states)


def test_steps_from_layer_to_layer_are_the_way_at_once(encoder: Encoder) -> None:
    with torch.no_grad():
        hidden = embedded(encoder.model, convolved(encoder.model, heard(encoder, sounds())))
        for layer in range(LAYERS):
            hidden = through_layers(encoder.model, hidden, layer, layer + 1)
    theirs = transformers_own(encoder, heard(encoder, sounds()))[-1]
    torch.testing.assert_close(hidden, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["wavlm-base", "wavlm-large"])
def test_the_bias_of_relative_positions_is_that_of_the_model_in_use(tmp_path: Path, kind: str) -> None:
    """Layer 0 makes it, also where layer 0 lies below the boundary."""
    encoder = load_encoder(str(save_small(tmp_path, kind)))
    model = copy.deepcopy(encoder.model)
    with torch.no_grad():
        model.encoder.layers[0].attention.rel_attn_embed.weight.mul_(-3)
        boundary = Boundary("layer", 2)
        stored = below(replace(encoder, model=model), boundary, sounds())
        theirs = model(heard(encoder, sounds())).last_hidden_state
        torch.testing.assert_close(output_above(encoder, model, boundary, stored), theirs, atol=1e-5, rtol=0)
        assert (output_above(encoder, encoder.model, boundary, stored) - theirs).abs().max() > 0.01


# Convolutions


def test_frames_are_as_many_as_the_model_makes(encoder: Encoder) -> None:
    for samples in (400, 719, 720, 24_000, 24_001, 143_999):
        audio = torch.zeros(1, samples)
        assert convolved(encoder.model, audio).shape[1] == encoder.frames(samples)


@pytest.mark.parametrize("kind", LOCAL)
def test_a_frame_of_local_convolutions_hears_its_receptive_field_and_nothing_else(
    tmp_path: Path, kind: str
) -> None:
    raw = load_encoder(str(save_small(tmp_path, kind, do_normalize=False)))
    assert raw.convolution_is_local
    audio = sounds(1).requires_grad_()
    convolved(raw.model, audio)[0, 10].square().sum().backward()
    heard_samples = torch.nonzero(audio.grad[0]).flatten()
    assert heard_samples[0] == 10 * raw.stride
    assert heard_samples[-1] == 10 * raw.stride + raw.receptive_field - 1


def test_convolutions_are_called_local_where_they_are_and_nowhere_else(
    encoder: Encoder, raw: Encoder
) -> None:
    """By experiment: does a frame change when the sound before or after it does?"""
    for one in (encoder, raw):
        audio = sounds(1)
        frame = one.frames(audio.shape[1]) // 2
        first, last = frame * one.stride, frame * one.stride + one.receptive_field
        same = []
        for part in (slice(last, None), slice(0, first)):
            other = audio.clone()
            other[:, part] *= 5
            with torch.no_grad():
                was, became = (convolved(one.model, heard(one, sound))[0, frame] for sound in (audio, other))
            same.append(torch.equal(was, became))
        assert same == [one.convolution_is_local] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_norm_over_the_whole_window_is_never_local(tmp_path: Path, kind: str) -> None:
    folder = save_small(tmp_path, kind, do_normalize=False)
    assert load_encoder(str(folder)).convolution_is_local is (kind in LOCAL)
    AutoFeatureExtractor.from_pretrained(folder, do_normalize=True).save_pretrained(folder)
    assert load_encoder(str(folder)).convolution_is_local is False
