"""The speech model: loading it, and running what is frozen and what is not."""

# B windows, S samples, F frames, C convolution channels, D hidden features

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoFeatureExtractor, Wav2Vec2FeatureExtractor

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.errors import EncoderError
from wav2bold.trainables.families import (
    FAMILIES,
    HEARD,
    UNUSED,
    SpeechModel,
    convolution_is_local,
    convolutions,
    convolved,
    embedded,
    hidden_states,
    layers_of,
    through_layers,
)

UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError, StrictDataclassError)
"""What transformers, and what it reads with, raise on files that are absent, damaged or something else."""


@dataclass(frozen=True)
class Encoder:
    """A pretrained speech model as it came, never changed. Refinement works on a copy of it.

    model: where it is loaded only to be read, it may be Moonshine's, of another plan (see `families.Heard`).
    digest: content address of its weights and of how it hears (weights, shape, normalisation).
    """

    name: str
    model: SpeechModel
    extractor: Wav2Vec2FeatureExtractor
    digest: str

    @property
    def device(self) -> torch.device:
        """Where the model lies, and all that goes through it."""
        return next(self.model.parameters()).device

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return len(layers_of(self.model))

    @property
    def convolution_is_local(self) -> bool:
        """Whether a frame of the convolutions depends on nothing but its own samples.

        A group norm over time (the base sizes of wav2vec2, HuBERT and WavLM) or a normalisation of the
        whole window mixes frames; then the features of a window differ from the same frames of the
        whole story.
        """
        return convolution_is_local(self.model) and not self.extractor.do_normalize

    @property
    def stride(self) -> int:
        """Samples between two frames."""
        product = 1
        for step in convolutions(self.model)[1]:
            product *= step
        return product

    @property
    def receptive_field(self) -> int:
        """Samples that one frame hears."""
        field, step = 1, 1
        for kernel, stride in zip(*convolutions(self.model), strict=True):
            field += (kernel - 1) * step
            step *= stride
        return field

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give."""
        return (samples - self.receptive_field) // self.stride + 1


def load_encoder(name: str, device: torch.device | str = "cpu", *, only_reads: bool = False) -> Encoder:
    """A speech model from a folder or, where it can be reached, from the Hugging Face hub, on a device.

    Its weights are read as float32, whatever they were saved as.
    only_reads: whether its hidden states are read and no more; then more families are taken.
    Raises EncoderError if it isn't there, is of no family that is taken, or hears another sampling rate.
    """
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise EncoderError(f"encoder {name}: no such folder", "give a folder that save_pretrained wrote")
    try:
        config = AutoConfig.from_pretrained(name)
        families = HEARD if only_reads else FAMILIES
        if config.model_type not in families:
            raise EncoderError(
                f"{name}: of the family {config.model_type}, which is not taken",
                f"give an encoder of {', '.join(families)}",
            )
        loaded: Any = families[config.model_type].from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
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
    model: SpeechModel = loaded[0]
    loading: dict[str, Any] = loaded[1]
    absent = sorted(set(loading["missing_keys"]) - {UNUSED})
    if absent:
        raise EncoderError(f"{name}: its weights lack {absent[0]}", "download the encoder again")
    if loading["mismatched_keys"]:
        key, stored, wanted = min(loading["mismatched_keys"], key=str)
        raise EncoderError(
            f"{name}: {key} is {_times(stored)}, config.json asks for {_times(wanted)}",
            "download the encoder again",
        )
    if getattr(config, "add_adapter", False):  # HuBERT has none
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
    model.train(False).requires_grad_(False)
    if UNUSED in loading["missing_keys"]:  # else it is random, and the digest another one each time
        torch.nn.init.zeros_(model.masked_spec_embed)
    digest = digest_of(model, extractor)
    torch.nn.Module.to(model, device)  # transformers decorates its own `to`, and loses the types
    return Encoder(name, model, extractor, digest)


def _times(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


def digest_of(model: SpeechModel, extractor: Wav2Vec2FeatureExtractor) -> str:
    """Content address of an encoder: equal for equal weights, shape and normalisation."""
    hasher = hashlib.blake2b(digest_size=16)
    shape = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}
    shape.pop("transformers_version", None)
    hasher.update(repr((sorted(shape.items(), key=str), extractor.do_normalize)).encode())
    for key, tensor in sorted(model.state_dict().items()):
        hasher.update(key.encode())
        hasher.update(tensor.detach().cpu().contiguous().numpy())
    return hasher.hexdigest()


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


def heard(encoder: Encoder, audio_BS: Tensor) -> Tensor:
    """Windows as the encoder's feature extractor would give them: (B, S), normalised if it does so."""
    if not encoder.extractor.do_normalize:
        return audio_BS
    mean = audio_BS.mean(1, keepdim=True)
    variance = audio_BS.var(1, correction=0, keepdim=True)
    return (audio_BS - mean) / torch.sqrt(variance + 1e-7)


def prefix(encoder: Encoder, boundary: Boundary, features_BFC: Tensor, mask: Tensor | None = None) -> Tensor:
    """From the convolutions' output to the boundary's, frozen. mask: as in `through_layers`."""
    if boundary.at == "conv":
        return features_BFC
    return through_layers(encoder.model, embedded(encoder.model, features_BFC), 0, boundary.layer, mask)


def suffix(
    encoder: Encoder,
    model: SpeechModel,
    boundary: Boundary,
    below: Tensor,
    numbers: Sequence[int],
    mask: Tensor | None = None,
) -> list[Tensor]:
    """From the boundary's output (or audio windows) to hidden states, (B, F, D) each; none above is computed.

    model: the copy that is trained.  below: (B, S) for "audio", (B, F, C) for "conv", else (B, F, D).
    numbers: of the hidden states, rising, from the boundary's layer on; the number of layers is the output.
    mask: as in `through_layers`.
    """
    if boundary.at == "audio":
        below = convolved(model, heard(encoder, below))
    if boundary.at != "layer":
        below = embedded(model, below)
    return hidden_states(model, below, boundary.layer, numbers, mask)


def save_encoder(folder: Path, model: SpeechModel, extractor: Wav2Vec2FeatureExtractor) -> None:
    """Write a folder that `SpeechModel.from_pretrained` and `AutoFeatureExtractor` load."""
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
