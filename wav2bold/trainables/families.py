"""The families of speech models that are taken, and the steps of their forward pass one by one.

They share wav2vec2's plan and its names: convolutions, projection, positions, transformer layers.
What differs between them is told here, and nowhere else.
"""

# B windows, S samples, F frames, C convolution channels, D hidden features, H heads

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import Data2VecAudioModel, HubertModel, Wav2Vec2Model, WavLMModel
from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

SpeechModel = Wav2Vec2Model | HubertModel | WavLMModel | Data2VecAudioModel
Heard = SpeechModel | MoonshineEncoder
"""Whose hidden states can be read. Moonshine's plan is another, so it is read, and not refined."""

FAMILIES: Mapping[str, type[SpeechModel]] = {
    "wav2vec2": Wav2Vec2Model,
    "hubert": HubertModel,
    "wavlm": WavLMModel,
    "data2vec-audio": Data2VecAudioModel,
}
"""Models by the `model_type` of their config.json."""

HEARD: Mapping[str, type[Heard]] = {**FAMILIES, "moonshine": MoonshineEncoder}
MOONSHINE_CONVOLUTIONS = (127, 7, 3), (64, 3, 2)
"""Kernels and strides, which its config.json doesn't tell."""

UNUSED = "masked_spec_embed"
"""The parameter that stands for masked sound. Only pretraining uses it: here it is not trained."""


def convolutions(model: Heard) -> tuple[Sequence[int], Sequence[int]]:
    """Kernels and strides of the convolutions, in samples and then in steps of the one before."""
    if isinstance(model, MoonshineEncoder):
        return MOONSHINE_CONVOLUTIONS
    return model.config.conv_kernel, model.config.conv_stride


def layers_of(model: Heard) -> nn.ModuleList:
    """The transformer layers, the lowest first."""
    found: nn.ModuleList = model.layers if isinstance(model, MoonshineEncoder) else model.encoder.layers
    return found


def convolution_is_local(model: SpeechModel) -> bool:
    """Whether a frame of the convolutions depends on nothing but its own samples.

    Asked of the modules: a norm of channels within a frame is local, one over time is not. Data2VecAudio
    ignores the `feat_extract_norm` of its config.json.
    """
    with_parameters = [
        part
        for part in model.feature_extractor.modules()
        if next(part.parameters(recurse=False), None) is not None
    ]
    return all(isinstance(part, nn.Conv1d | nn.LayerNorm) for part in with_parameters)


def norm_is_last(model: Heard) -> bool:
    """Whether the encoder's own layer norm follows its layers ("stable" layer norm), or precedes them.

    Data2VecAudio has it before them, whatever its config.json says.
    """
    if isinstance(model, MoonshineEncoder):
        return True
    return not isinstance(model, Data2VecAudioModel) and bool(model.config.do_stable_layer_norm)


def takes_mask(model: SpeechModel) -> bool:
    """Whether its layers can be told which frames attend to which."""
    return not isinstance(model, WavLMModel)


def convolved(model: Heard, audio_BS: Tensor) -> Tensor:
    """Output of the convolutions, (B, F, C)."""
    if isinstance(model, MoonshineEncoder):
        sound_BCF = model.groupnorm(model.conv1(audio_BS[:, None]).tanh())
        for convolve in (model.conv2, model.conv3):
            sound_BCF = nn.functional.gelu(convolve(sound_BCF))
        return cast(Tensor, sound_BCF).transpose(1, 2)
    return cast(Tensor, model.feature_extractor(audio_BS)).transpose(1, 2)


def embedded(model: Heard, features_BFC: Tensor) -> Tensor:
    """Input of the first transformer layer, (B, F, D): projection and positions."""
    if isinstance(model, MoonshineEncoder):
        return features_BFC  # its positions are turned into each layer's attention
    projected = model.feature_projection(features_BFC)
    # HuBERT gives nothing beside
    return positioned(model, projected if isinstance(projected, Tensor) else projected[0])


def positioned(model: SpeechModel, hidden_BFD: Tensor) -> Tensor:
    """Input of the first transformer layer, (B, F, D), of what was projected: with its positions."""
    hidden_BFD = hidden_BFD + model.encoder.pos_conv_embed(hidden_BFD)
    if not norm_is_last(model):
        hidden_BFD = model.encoder.layer_norm(hidden_BFD)
    return hidden_BFD


def through_layers(
    model: Heard, hidden_BFD: Tensor, first: int, last: int, mask: Tensor | None = None
) -> Tensor:
    """Hidden states after layers first ... last - 1; after all of them, the encoder's output.

    mask: (1, 1, F, F), whether a frame may attend to another; None lets all. WavLM has no place for one.
    """
    if first == last:
        return hidden_BFD
    if isinstance(model, WavLMModel):
        assert mask is None, "refused before"
        bias = _position_bias(model, hidden_BFD)
        for layer in model.encoder.layers[first:last]:
            hidden_BFD, _ = layer(hidden_BFD, position_bias=bias)
    elif isinstance(model, MoonshineEncoder):
        assert mask is None, "only read, never refined"
        frames = torch.arange(hidden_BFD.shape[1], device=hidden_BFD.device)
        turned = model.rotary_emb(hidden_BFD, frames[None])
        for layer in model.layers[first:last]:
            hidden_BFD = layer(hidden_BFD, position_embeddings=turned)
    else:
        for layer in model.encoder.layers[first:last]:
            hidden_BFD = layer(hidden_BFD, attention_mask=mask)
    if last == len(layers_of(model)) and norm_is_last(model):
        norm = model.layer_norm if isinstance(model, MoonshineEncoder) else model.encoder.layer_norm
        hidden_BFD = norm(hidden_BFD)
    return hidden_BFD


def hidden_states(
    model: Heard, hidden_BFD: Tensor, first: int, numbers: Sequence[int], mask: Tensor | None = None
) -> list[Tensor]:
    """Of hidden state `first`, those after it by number, rising: 0 is the input of the first layer."""
    found = []
    for number in numbers:
        hidden_BFD = through_layers(model, hidden_BFD, first, number, mask)
        first = number
        found.append(hidden_BFD)
    return found


def _position_bias(model: WavLMModel, hidden_BFD: Tensor) -> Tensor:
    """WavLM's bias by relative position, (B * H, F, F): made by the first layer, added in all of them."""
    windows, frames, _ = hidden_BFD.shape
    return attentions(model)[0].compute_bias(frames, frames).repeat(windows, 1, 1)


def attentions(model: WavLMModel) -> list[WavLMAttention]:
    """WavLM's attention modules, the first layer's first."""
    return [part for part in model.encoder.modules() if isinstance(part, WavLMAttention)]


def attended(
    attention: WavLMAttention, hidden_BFD: Tensor, attention_mask: None, bias: Tensor
) -> tuple[Tensor, None]:
    """What `WavLMAttention.torch_multi_head_self_attention` gives, by calling its four projections.

    WavLM's own reads their weights and never calls them, so that adapters on them would do nothing
    (huggingface/transformers#48773).  bias: (B * H, F, F), gated.
    """
    assert attention_mask is None, "windows have no padding"
    windows, frames, width = hidden_BFD.shape
    heads = attention.num_heads
    query, key, value = (
        project(hidden_BFD).view(windows, frames, heads, -1).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=bias.view(windows, heads, frames, frames),
        dropout_p=attention.dropout if attention.training else 0.0,
    )
    return attention.out_proj(mixed.transpose(1, 2).reshape(windows, frames, width)), None
