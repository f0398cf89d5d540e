"""Training from the store gives the losses of training without one, wherever the frozen part ends.

The other side is the loop that a lab would write: every window's sound through the whole model of
transformers, every time. It shares with the store's nothing but the head that both begin from.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import RATE_HZ, in_memory, save_small_wav2vec2, speech, volumes
from transformers import AutoFeatureExtractor, Wav2Vec2Model

from wav2bold.config import Configuration, LayerRange, ParameterType
from wav2bold.datasets.windows import Windows, windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.parameter_types import boundary_of, unfrozen_names
from wav2bold.trainables.refine import Material, refine
from wav2bold.trainables.ridge import Head, fit_head

TR_S, HISTORY, SECONDS, BATCH = 1.0, 2, 6.0, 2
STEPS, EPOCHS, WARMUP = 20, 4, 4
# As loud as normalised sound: of a random encoder's hardly varying features, rounding would be a large part
SOUNDS = {name: 20 * speech(SECONDS, seed) for seed, name in enumerate(("ferry", "bakery", "library"))}
LAYERS = 3
Unfrozen = dict[ParameterType, LayerRange | None]
UNFROZEN: list[tuple[str, Unfrozen]] = [
    ("audio", {"conv": None}),
    ("audio", {"conv": None, "attention": None, "layer_norm": None}),
    ("conv", {"projection": None}),
    ("conv", {"positional": None}),
    ("conv", {"layer_norm": None}),  # the norm before the first layer, too
    ("layer0", {"attention": None, "feed_forward": None}),
    ("layer0", {"bias": (0, 0)}),
    ("layer1", {"attention": (1, 2)}),
    ("layer1", {"feed_forward": (1, 1)}),
    ("layer2", {"attention": (2, 2), "feed_forward": (2, 2), "layer_norm": (2, 2), "bias": (2, 2)}),
]


@pytest.fixture(scope="module", params=["group-post", "group-pre", "layer-post", "layer-pre"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """By the norm of the convolutions and the place of the layers' own.

    Released ones are group-post (base) and layer-pre (large). With a group norm, windows are normalised and
    convolved one by one; without, the whole story is convolved once.
    """
    convolutions, place = request.param.split("-")
    folder = save_small_wav2vec2(
        tmp_path_factory.mktemp("encoder"),
        do_normalize=convolutions == "group",
        feat_extract_norm=convolutions,
        do_stable_layer_norm=place == "pre",
        conv_bias=convolutions == "layer",
        num_hidden_layers=LAYERS,
    )
    return load_encoder(str(folder))


def material(encoder: Encoder, store: ActivationStore) -> Material:
    """Targets follow the sound's level, with noise."""
    random = np.random.default_rng(0)
    bold = {}
    for story, sound in SOUNDS.items():
        level = np.abs(sound).reshape(int(SECONDS), -1).mean(1)
        level = np.append(0, (level - level.mean()) / level.std())[:, None]
        bold["sub-001", story] = volumes(level + random.standard_normal((len(level), 4)), TR_S)
    shards = in_memory(dict.fromkeys(SOUNDS, SECONDS), bold, TR_S, SOUNDS)
    train, validation = (
        windows(shards, ["sub-001"], stories, HISTORY) for stories in (["ferry", "bakery"], ["library"])
    )
    return Material(encoder, shards, store, train, validation)


def options(unfrozen: Unfrozen) -> Configuration:
    """Of twenty steps. None is of all windows: at the ridge's minimum the head's gradient is all rounding,
    and AdamW brings it to the size of a step."""
    return Configuration(
        history=HISTORY,
        unfrozen=unfrozen,
        head_l2=100.0,
        encoder_lr=1e-3,
        head_lr=1e-3,
        epochs=EPOCHS,
        batch=BATCH,
        warmup_steps=WARMUP,
        weight_decay=0.01,
        noise="white",
    )


def losses_from_the_store(some: Material, unfrozen: Unfrozen) -> list[float]:
    """Mean loss of each epoch."""
    return [report.loss for report in refine(some, options(unfrozen), seed=0)][1:]


# Without a store


def sounds_of(name: str, some: Windows) -> torch.Tensor:
    length = round(HISTORY * TR_S * RATE_HZ)
    cut = [
        SOUNDS[str(story)][stop - length : stop] for story, stop in zip(some.story, some.stop, strict=True)
    ]
    extractor = AutoFeatureExtractor.from_pretrained(name)
    return extractor(cut, sampling_rate=RATE_HZ, return_tensors="pt").input_values


def features_of(model: Wav2Vec2Model, audio: torch.Tensor) -> torch.Tensor:
    """Mean of the frames whose middle lies in each TR; a frame hears 400 samples, one begins every 320."""
    hidden = model(audio).last_hidden_state
    middle_s = (320 * torch.arange(hidden.shape[1]) + 200) / RATE_HZ
    return torch.cat([hidden[:, middle_s // TR_S == tr].mean(1) for tr in range(HISTORY)], dim=1)


def head_of(name: str, some: Windows) -> Head:
    with torch.no_grad():
        features = features_of(Wav2Vec2Model.from_pretrained(name).eval(), sounds_of(name, some)).numpy()
    return fit_head(features, some.y, some.story, options({}).head_l2)


def losses_without(
    name: str, trained: list[str], some: Windows, head: Head, chosen: Configuration
) -> list[float]:
    """Mean loss of each epoch."""
    model = Wav2Vec2Model.from_pretrained(name).eval()
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key in trained)
    of_encoder = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weight, bias = (torch.tensor(part).requires_grad_() for part in (head.weight, head.bias))
    mean, sd, alpha = (torch.tensor(part) for part in (head.mean, head.sd, head.alpha))
    optimiser = torch.optim.AdamW(
        [
            {"params": of_encoder, "weight_decay": chosen.weight_decay},
            {"params": [weight, bias], "weight_decay": 0.0},
        ]
    )
    audio, y = sounds_of(name, some), torch.tensor(some.y)
    losses: list[float] = []
    order = np.concatenate(
        [np.random.default_rng([0, epoch]).permutation(len(y)) for epoch in range(1, EPOCHS + 1)]
    )
    for step, rows in enumerate(np.split(order, STEPS)):
        done = (step - WARMUP) / (STEPS - WARMUP)
        share = (step + 1) / WARMUP if step < WARMUP else (1 + math.cos(math.pi * done)) / 2
        optimiser.param_groups[0]["lr"] = chosen.encoder_lr * share
        optimiser.param_groups[1]["lr"] = chosen.head_lr * share
        loss = ((features_of(model, audio[rows]) - mean) / sd @ weight + bias - y[rows]).square().mean()
        optimiser.zero_grad()
        (loss + (alpha * weight.square().sum(0)).sum() / y.numel()).backward()
        torch.nn.utils.clip_grad_norm_([*of_encoder, weight, bias], chosen.clip)
        optimiser.step()
        losses.append(loss.item())
    return np.reshape(losses, (EPOCHS, -1)).mean(1)


@pytest.mark.parametrize(("boundary", "unfrozen"), UNFROZEN, ids=str)
def test_twenty_steps_from_the_store_have_the_losses_of_twenty_without(
    encoder: Encoder, boundary: str, unfrozen: Unfrozen, tmp_path: Path
) -> None:
    trained, chosen = unfrozen_names(encoder, unfrozen), options(unfrozen)
    assert str(boundary_of(encoder, trained)) == boundary
    some = material(encoder, ActivationStore(tmp_path))
    assert len(some.train) * EPOCHS == BATCH * STEPS
    head = head_of(encoder.name, some.train)
    without = losses_without(encoder.name, trained, some.train, head, chosen)
    for _ in ("computed", "found"):
        np.testing.assert_allclose(losses_from_the_store(some, unfrozen), without, rtol=0, atol=1e-5)
    of_head_alone = losses_without(encoder.name, [], some.train, head, chosen)
    assert np.abs(of_head_alone - without).max() > 1e-4
