"""The simulated brain's ear: a small wav2vec2 that hears, and the same one with parts perturbed.

Hugging Face's own initialisation gives hidden states that hardly change in time. The spreads below
were chosen so that states vary along many directions and depend on every part of the encoder.
"""

# F frames, C convolution channels, D hidden features, n TRs of history

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from wav2bold.datasets.audio import SAMPLE_RATE_HZ

HIDDEN = 32
NORM_SPREAD = 0.3
WINDOWS_AT_ONCE = 32


def make_teacher(audio: NDArray[np.float32], seed: int) -> Wav2Vec2Model:
    """A small wav2vec2 with random weights, its projection fitted to speech.

    audio: (samples,) at least a minute of 16 kHz speech, on which the convolutions' outputs are
    whitened before they are turned at random, so that no direction is lost.
    """
    config = Wav2Vec2Config(
        hidden_size=HIDDEN,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        conv_dim=(32,) * 7,
        feat_extract_norm="layer",
        conv_bias=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
        layerdrop=0.0,
        vocab_size=32,
    )
    model = Wav2Vec2Model(config)
    model.eval().requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(_initial(name, parameter, random))
    features_FC = model.feature_projection.layer_norm(convolve(model, audio))
    centred = features_FC - features_FC.mean(0)
    power, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    whiten = axes / power.clamp_min(1e-4 * power.max()).sqrt()
    turn, _ = torch.linalg.qr(torch.randn(config.hidden_size, len(power), generator=random))
    model.feature_projection.projection.weight.copy_(turn @ whiten.T)
    model.feature_projection.projection.bias.copy_(-turn @ whiten.T @ features_FC.mean(0))
    return model


def extractor() -> Wav2Vec2FeatureExtractor:
    """The teacher's feature extractor: 16 kHz, no normalisation of the window."""
    return Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE_HZ, padding_value=0.0, do_normalize=False
    )


def perturbed(
    teacher: Wav2Vec2Model, kinds: Iterable[str], layers: Iterable[int], seed: int
) -> Wav2Vec2Model:
    """A copy of the teacher in which matrices of these kinds and layers have their entries shuffled.

    kinds: among "attention" and "feed_forward".  What is not named stays equal bit by bit.
    """
    model = Wav2Vec2Model(teacher.config)
    model.eval().requires_grad_(False)
    model.load_state_dict(teacher.state_dict())
    random = torch.Generator().manual_seed(seed)
    kinds, layers = set(kinds), set(layers)
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if not name.startswith("encoder.layers.") or int(parts[2]) not in layers:
            continue
        if parts[3] in kinds and parts[-1] == "weight":
            order = torch.randperm(parameter.numel(), generator=random)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return model


def convolve(model: Wav2Vec2Model, audio: NDArray[np.float32]) -> Tensor:
    """The convolutions' output for a whole story, (F, C). Only right where they are local."""
    pieces, stride, field, frames_at_once = [], 320, 400, 3000
    frames = (len(audio) - field) // stride + 1
    with torch.no_grad():
        for first in range(0, frames, frames_at_once):
            last = min(first + frames_at_once, frames)
            piece = torch.from_numpy(audio[None, first * stride : (last - 1) * stride + field].copy())
            pieces.append(model.feature_extractor(piece)[0].T)
    return torch.cat(pieces)


def hear(
    teacher: Wav2Vec2Model,
    audio: NDArray[np.float32],
    times_s: NDArray[np.float64],
    tr_s: float,
    history: int,
) -> NDArray[np.float32]:
    """Last hidden states per TR of the window that ends at each time, (times, n, D).

    times_s: (times,) seconds in the story, each at least history * tr_s; with tr_s they fall on the
    20 ms grid of the frames.
    """
    features_FC = convolve(teacher, audio)
    per_tr = round(tr_s * SAMPLE_RATE_HZ / 320)
    frames = history * per_tr - 1
    heard = []
    first = np.round(times_s * SAMPLE_RATE_HZ / 320).astype(int) - history * per_tr
    with torch.no_grad():
        for some in np.array_split(first, max(len(first) // WINDOWS_AT_ONCE, 1)):
            windows = torch.stack([features_FC[start : start + frames] for start in some])
            hidden, _ = teacher.feature_projection(windows)
            hidden = teacher.encoder(hidden).last_hidden_state
            padded = nn.functional.pad(hidden, (0, 0, 0, 1)).unflatten(1, (history, per_tr))
            frames_of_tr = torch.full((history, 1), float(per_tr))
            frames_of_tr[-1] = per_tr - 1
            heard.append((padded.sum(2) / frames_of_tr).numpy())
    return np.concatenate(heard)


def _initial(name: str, parameter: Tensor, random: torch.Generator) -> Tensor:
    """What a parameter begins with, by its place."""
    noise = torch.randn(parameter.shape, generator=random)
    if "layer_norm" in name:
        return NORM_SPREAD * noise + (1.0 if name.endswith("weight") else 0.0)
    if name.endswith("intermediate_dense.bias"):
        return noise
    if name.endswith("bias"):
        return torch.zeros_like(parameter)
    if "parametrizations" in name and name.endswith("original0"):
        # the positional convolution's length at each of its places, as if its entries were drawn like
        # all others; its direction is original1
        return torch.full_like(parameter, (HIDDEN / parameter.numel()) ** 0.5)
    if name == "masked_spec_embed":
        return noise
    gain = 2.0 if "feed_forward" in name else 1.0
    fan_in = parameter[0].numel()
    return torch.mul(noise, gain / fan_in**0.5)
