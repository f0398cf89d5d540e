"""An encoder is loaded as it was saved, has one address, and what can't be loaded is said in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from listeners import save_small_wav2vec2
from safetensors.torch import load_file, save_file
from small_encoders import KINDS, MODELS, save_small
from transformers import (
    AutoFeatureExtractor,
    BertConfig,
    Wav2Vec2ConformerConfig,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from wav2bold.errors import EncoderError
from wav2bold.trainables.encoder import load_encoder, save_encoder

# Loading


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_is_loaded_bit_by_bit_frozen_and_at_rest(tmp_path: Path, kind: str) -> None:
    encoder = load_encoder(str(save_small(tmp_path, kind)))
    stored = load_file(tmp_path / "model.safetensors")
    theirs = MODELS[KINDS[kind][0]].from_pretrained(tmp_path)
    assert type(encoder.model) is type(theirs)
    ours = encoder.model.state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[key], value) for key, value in stored.items())
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert encoder.layers == 3


def test_weights_of_half_precision_are_read_as_float32(tmp_path: Path) -> None:
    """The convolutions would refuse float32 sound."""
    folder = save_small_wav2vec2(tmp_path)
    half = Wav2Vec2Model.from_pretrained(folder).half()
    half.save_pretrained(folder)
    assert load_file(folder / "model.safetensors")["feature_projection.projection.weight"].dtype == torch.half
    model = load_encoder(str(folder)).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.feature_projection.projection.weight, half.feature_projection.projection.weight)


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


def test_an_encoder_without_what_only_pretraining_uses_has_one_digest(tmp_path: Path) -> None:
    """As most of those that were trained further; transformers then draws it anew at each loading."""
    path = save_small_wav2vec2(tmp_path) / "model.safetensors"
    weights = load_file(path)
    del weights["masked_spec_embed"]
    save_file(weights, path, {"format": "pt"})
    assert load_encoder(str(tmp_path)).digest == load_encoder(str(tmp_path)).digest


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


@pytest.mark.parametrize(
    ("config", "family"),
    [(BertConfig, "bert"), (WhisperConfig, "whisper"), (Wav2Vec2ConformerConfig, "wav2vec2-conformer")],
)
def test_another_kind_of_model_is_named(tmp_path: Path, config: type, family: str) -> None:
    config().save_pretrained(tmp_path)
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}: of the family {family}, which is not taken; "
        "give an encoder of wav2vec2, hubert, wavlm, data2vec-audio"
    )


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


@pytest.mark.parametrize("kind", ["wav2vec2-base", "wavlm-base", "data2vec-base"])  # HuBERT can't have one
def test_an_adapter_on_top_is_refused(tmp_path: Path, kind: str) -> None:
    """Its output would be left out of what the head reads."""
    save_small(tmp_path, kind, add_adapter=True)
    with pytest.raises(EncoderError) as raised:
        load_encoder(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}: has an adapter on top, which is not refined; set add_adapter to false"
    )
