"""Encoders of every family that is taken: small ones with weights, and the published ones' shapes without."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from wav2bold.trainables.encoder import Boundary, Encoder, suffix
from wav2bold.trainables.families import SpeechModel

RATE_HZ = 16_000
LAYERS = 3

CONFIGS = {
    "wav2vec2": Wav2Vec2Config,
    "hubert": HubertConfig,
    "wavlm": WavLMConfig,
    "data2vec-audio": Data2VecAudioConfig,
}
MODELS = {
    "wav2vec2": Wav2Vec2Model,
    "hubert": HubertModel,
    "wavlm": WavLMModel,
    "data2vec-audio": Data2VecAudioModel,
}

GROUP = {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False}
LAYER = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
RELATIVE = {
    "num_buckets": 24,
    "max_bucket_distance": 60,
}  # fewer than frames, so that far ones share a bucket
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-base": ("wav2vec2", GROUP),
    "wav2vec2-large": ("wav2vec2", LAYER),
    "wav2vec2-mixed": ("wav2vec2", GROUP | {"do_stable_layer_norm": True}),
    "wav2vec2-adapted": ("wav2vec2", LAYER | {"adapter_attn_dim": 4}),
    "hubert-base": ("hubert", GROUP),
    "hubert-large": ("hubert", LAYER),
    "hubert-unnormed": ("hubert", GROUP | {"feat_proj_layer_norm": False}),
    "hubert-batch": ("hubert", GROUP | {"conv_pos_batch_norm": True}),
    "wavlm-base": ("wavlm", GROUP | RELATIVE),
    "wavlm-large": ("wavlm", LAYER | RELATIVE | {"conv_bias": False}),
    "data2vec-base": ("data2vec-audio", {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3}),
    # its config.json may hold wav2vec2's options, to which it pays no attention
    "data2vec-lying": (
        "data2vec-audio",
        {"conv_pos_kernel_size": 4, "num_conv_pos_embeddings": 2, "do_stable_layer_norm": True}
        | {"feat_extract_norm": "group"},
    ),
}
"""Small encoders: their family, and what sets them apart. Nobody publishes a `mixed` one."""

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
PUBLISHED: dict[str, tuple[str, dict[str, Any], float]] = {
    "facebook/wav2vec2-base": ("wav2vec2", GROUP, 95.0),
    "facebook/wav2vec2-large-lv60": ("wav2vec2", LARGE | LAYER, 317.4),
    "facebook/hubert-base-ls960": ("hubert", GROUP, 94.7),
    "facebook/hubert-large-ll60k": ("hubert", LARGE | LAYER, 316.6),
    "microsoft/wavlm-base": ("wavlm", GROUP, 94.7),
    "microsoft/wavlm-large": ("wavlm", LARGE | LAYER | {"conv_bias": False}, 316.6),
    "facebook/data2vec-audio-base": ("data2vec-audio", {}, 93.8),
}
"""Published encoders: family, shape, and millions of parameters by the SUPERB leaderboard, which counts what
only pretraining uses as well."""


def save_small(folder: Path, kind: str, do_normalize: bool = True, seed: int = 0, **options: object) -> Path:
    """A small encoder of one of KINDS, with its feature extractor, as `save_pretrained` writes them."""
    family, own = KINDS[kind]
    config = CONFIGS[family](
        **{
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "conv_dim": (12,) * 7,
            "num_conv_pos_embedding_groups": 4,
            "vocab_size": 32,
            "initializer_range": 0.3,
            **({} if family == "data2vec-audio" else {"num_conv_pos_embeddings": 8}),
            **own,
            **options,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS[family](config)
        with torch.no_grad():
            for parameter in model.parameters():  # norms of 1 and biases of 0 would hide mistakes
                parameter.add_(0.1 * torch.randn_like(parameter))
            for part in model.modules():
                if isinstance(part, nn.BatchNorm1d):
                    part.running_mean.normal_()
                    part.running_var.uniform_(0.5, 2)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=RATE_HZ, do_normalize=do_normalize).save_pretrained(folder)
    return folder


def output_above(
    encoder: Encoder, model: SpeechModel, boundary: Boundary, below: torch.Tensor
) -> torch.Tensor:
    """The last hidden state alone."""
    return suffix(encoder, model, boundary, below, (encoder.layers,))[0]


def published(name: str) -> PreTrainedModel:
    """A published encoder's modules and parameters, which take no memory and hold no numbers."""
    family, own, _ = PUBLISHED[name]
    config: PreTrainedConfig = CONFIGS[family](**own)
    with torch.device("meta"):
        return MODELS[family](config)
