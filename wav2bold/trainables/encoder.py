"""The speech model: loading it, naming its parts, running what is frozen and what is not."""

# B windows, S samples, F frames, C convolution channels, D hidden features

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from wav2bold.config import LayerRange, ParameterType
from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.errors import EncoderError

UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError, StrictDataclassError)
"""What transformers, and what it reads with, raise on files that are absent, damaged or something else."""


@dataclass(frozen=True)
class Encoder:
    """A pretrained speech model as it came, never changed. Refinement works on a copy of it.

    digest: content address of its weights and of how it hears (weights, shape, normalisation).
    """

    name: str
    model: Wav2Vec2Model
    extractor: Wav2Vec2FeatureExtractor
    digest: str

    @property
    def device(self) -> torch.device:
        """Where the model lies, and all that goes through it."""
        return next(self.model.parameters()).device

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return len(self.model.encoder.layers)

    @property
    def convolution_is_local(self) -> bool:
        """Whether a frame of the convolutions depends on nothing but its own samples.

        A group norm over time (wav2vec2-base) or a normalisation of the whole window mixes frames;
        then the features of a window differ from the same frames of the whole story.
        """
        return self.model.config.feat_extract_norm == "layer" and not self.extractor.do_normalize

    @property
    def stride(self) -> int:
        """Samples between two frames."""
        product = 1
        for step in self.model.config.conv_stride:
            product *= step
        return product

    @property
    def receptive_field(self) -> int:
        """Samples that one frame hears."""
        field, step = 1, 1
        for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
            field += (kernel - 1) * step
            step *= stride
        return field

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return (samples - self.receptive_field) // self.stride + 1


def load_encoder(name: str, device: torch.device | str = "cpu") -> Encoder:
    """A wav2vec2 from a folder or, where it can be reached, from the Hugging Face hub, on a device.

    Raises EncoderError if it isn't there, isn't a wav2vec2, or hears another sampling rate.
    """
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise EncoderError(f"encoder {name}: no such folder", "give a folder that save_pretrained wrote")
    try:
        config = AutoConfig.from_pretrained(name)
        if config.model_type != "wav2vec2":
            raise EncoderError(f"{name}: a {config.model_type}, not a wav2vec2", "give a wav2vec2 encoder")
        loaded: Any = Wav2Vec2Model.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True
        )
        extractor = AutoFeatureExtractor.from_pretrained(name)
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        first, _, _ = reason.partition(". ")  # the sentences that follow are advice to programmers
        raise EncoderError(
            f"encoder {name} can't be loaded ({first[:160].rstrip('. ')})",
            "give a folder that save_pretrained wrote, with config.json, weights and "
            "preprocessor_config.json, or a hub name where the hub can be reached",
        ) from None
    model: Wav2Vec2Model = loaded[0]
    loading: dict[str, Any] = loaded[1]
    absent = sorted(key for key in loading["missing_keys"] if "masked_spec_embed" not in key)
    if absent:
        raise EncoderError(f"{name}: its weights lack {absent[0]}", "download the encoder again")
    if loading["mismatched_keys"]:
        key, stored, wanted = min(loading["mismatched_keys"], key=str)
        raise EncoderError(
            f"{name}: {key} is {_times(stored)}, config.json asks for {_times(wanted)}",
            "download the encoder again",
        )
    if config.add_adapter:
        raise EncoderError(f"{name}: has an adapter on top, which is not refined", "set add_adapter to false")
    if not isinstance(extractor, Wav2Vec2FeatureExtractor):
        raise EncoderError(
            f"{name}: its preprocessor_config.json is of a {type(extractor).__name__}",
            "give that of a Wav2Vec2FeatureExtractor",
        )
    if extractor.sampling_rate != SAMPLE_RATE_HZ:
        raise EncoderError(
            f"{name}: hears {extractor.sampling_rate} Hz, the shards hold {SAMPLE_RATE_HZ} Hz",
            "give an encoder for 16 kHz speech",
        )
    model.eval().requires_grad_(False)
    digest = digest_of(model, extractor)
    torch.nn.Module.to(model, device)  # transformers decorates its own `to`, and loses the types
    return Encoder(name, model, extractor, digest)


def _times(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def digest_of(model: Wav2Vec2Model, extractor: Wav2Vec2FeatureExtractor) -> str:
    """Content address of an encoder: equal for equal weights, shape and normalisation."""
    hasher = hashlib.blake2b(digest_size=16)
    shape = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}
    shape.pop("transformers_version", None)
    hasher.update(repr((sorted(shape.items(), key=str), extractor.do_normalize)).encode())
    for key, tensor in sorted(model.state_dict().items()):
        hasher.update(key.encode())
        hasher.update(tensor.detach().cpu().contiguous().numpy())
    return hasher.hexdigest()


def parameter_type(name: str) -> tuple[ParameterType, int | None]:
    """Type and transformer layer of a parameter, by its name in the model; layer None below them.

    The convolutions are one type with their norms and biases. Elsewhere a norm's weight and bias
    are `layer_norm`, any other bias is `bias`, and a matrix is named after its place. Every
    parameter has exactly one type. Raises EncoderError for a name that wav2vec2 doesn't have.
    """
    parts = name.split(".")
    layer = int(parts[2]) if name.startswith("encoder.layers.") else None
    if parts[0] == "feature_extractor":
        return "conv", None
    if "layer_norm" in parts or "final_layer_norm" in parts:
        return "layer_norm", layer
    if parts[-1] == "bias":
        return "bias", layer
    if parts[0] == "masked_spec_embed" or parts[0] == "feature_projection":
        return "projection", None
    if "pos_conv_embed" in parts:
        return "positional", None
    if "attention" in parts:
        return "attention", layer
    if "feed_forward" in parts:
        return "feed_forward", layer
    raise EncoderError(f"parameter {name} is of no known type", "give a wav2vec2 encoder")


def unfrozen_names(encoder: Encoder, unfrozen: Mapping[ParameterType, LayerRange | None]) -> list[str]:
    """Names of the parameters that stage 2 trains.

    A type without a range is unfrozen everywhere; with one, only in those transformer layers.
    Raises EncoderError if a range leaves the encoder or is given to a type that has no layers.
    """
    last = encoder.layers - 1
    for kind, layers in unfrozen.items():
        if layers is not None and kind in ("conv", "projection", "positional"):
            raise EncoderError(f"unfrozen.{kind} lies below the layers", "write null in place of its range")
        if layers is not None and layers[1] > last:
            raise EncoderError(
                f"unfrozen.{kind}: there is no layer {layers[1]} in {encoder.name}",
                f"its last layer is {last}",
            )
    names = []
    for name, _ in encoder.model.named_parameters():
        kind, layer = parameter_type(name)
        if kind not in unfrozen or name == "masked_spec_embed":  # only ever used by masked pretraining
            continue
        layers = unfrozen[kind]
        if layers is None or (layer is not None and layers[0] <= layer <= layers[1]):
            names.append(name)
    return names


@dataclass(frozen=True)
class Boundary:
    """Where the frozen prefix ends: its output never changes and is stored.

    at: "audio" (nothing is frozen below), "conv" (after the convolutions), or "layer", the input of
    transformer layer `layer`; `layer` equal to the number of layers is the encoder's output.
    """

    at: str
    layer: int = 0

    def __str__(self) -> str:
        return f"layer{self.layer}" if self.at == "layer" else self.at


def boundary_of(encoder: Encoder, unfrozen: Iterable[str]) -> Boundary:
    """The highest boundary below every unfrozen parameter."""
    audio, conv = -2, -1
    lowest = encoder.layers
    for name in unfrozen:
        kind, layer = parameter_type(name)
        if kind == "conv":
            lowest = audio
        elif layer is not None:
            lowest = min(lowest, layer)
        elif name.startswith("encoder.layer_norm") and encoder.model.config.do_stable_layer_norm:
            lowest = min(lowest, encoder.layers - 1)  # there it follows the last layer
        else:
            lowest = min(lowest, conv)
    if lowest == audio:
        return Boundary("audio")
    return Boundary("conv") if lowest == conv else Boundary("layer", lowest)


def heard(encoder: Encoder, audio_BS: Tensor) -> Tensor:
    """Windows as the encoder's feature extractor would give them: (B, S), normalised if it does so."""
    if not encoder.extractor.do_normalize:
        return audio_BS
    mean = audio_BS.mean(1, keepdim=True)
    variance = audio_BS.var(1, correction=0, keepdim=True)
    return (audio_BS - mean) / torch.sqrt(variance + 1e-7)


def convolved(model: Wav2Vec2Model, audio_BS: Tensor) -> Tensor:
    """Output of the convolutions, (B, F, C)."""
    return cast(Tensor, model.feature_extractor(audio_BS)).transpose(1, 2)


def embedded(model: Wav2Vec2Model, features_BFC: Tensor) -> Tensor:
    """Input of the first transformer layer, (B, F, D): projection and positions."""
    hidden_BFD, _ = model.feature_projection(features_BFC)
    hidden_BFD = hidden_BFD + model.encoder.pos_conv_embed(hidden_BFD)
    if not model.config.do_stable_layer_norm:
        hidden_BFD = model.encoder.layer_norm(hidden_BFD)
    return cast(Tensor, hidden_BFD)


def through_layers(model: Wav2Vec2Model, hidden_BFD: Tensor, first: int, last: int) -> Tensor:
    """Hidden states after layers first ... last - 1; after all of them, the encoder's output."""
    layers: nn.ModuleList = model.encoder.layers
    for layer in layers[first:last]:
        hidden_BFD = layer(hidden_BFD, attention_mask=None)
    if last == len(layers) and first < last and model.config.do_stable_layer_norm:
        hidden_BFD = model.encoder.layer_norm(hidden_BFD)
    return hidden_BFD


def prefix(encoder: Encoder, boundary: Boundary, features_BFC: Tensor) -> Tensor:
    """From the convolutions' output to the boundary's, with the frozen encoder."""
    if boundary.at == "conv":
        return features_BFC
    return through_layers(encoder.model, embedded(encoder.model, features_BFC), 0, boundary.layer)


def suffix(encoder: Encoder, model: Wav2Vec2Model, boundary: Boundary, below: Tensor) -> Tensor:
    """From the boundary's output (or audio windows) to the last hidden states, (B, F, D).

    model: the copy that is trained.  below: (B, S) for "audio", (B, F, C) for "conv", else (B, F, D).
    """
    if boundary.at == "layer":
        return through_layers(model, below, boundary.layer, encoder.layers)
    if boundary.at == "audio":
        below = convolved(model, heard(encoder, below))
    return through_layers(model, embedded(model, below), 0, encoder.layers)


def save_encoder(folder: Path, model: Wav2Vec2Model, extractor: Wav2Vec2FeatureExtractor) -> None:
    """Write a folder that `Wav2Vec2Model.from_pretrained` and `AutoFeatureExtractor` load."""
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
