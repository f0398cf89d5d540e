"""A refinement that is killed goes on from its last epoch to the same numbers, whenever that was."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import save_small_wav2vec2
from lives import FILTERED, Moment, life
from refining import configuration, material
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from wav2bold.config import Configuration, Lora
from wav2bold.errors import StorageError
from wav2bold.trainables import refine as step
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.refine import Material, Refined, refine
from wav2bold.trainables.resuming import FILE
from wav2bold.trainables.scores import Report
from wav2bold.trainables.stage2 import Stage2

PLAIN = configuration({"attention": (1, 2)}, epochs=4, encoder_lr=3e-3)
ADAPTED = configuration(
    {"layer_norm": (1, 2)},
    lora=Lora(rank=2, targets=("feed_forward",)),
    epochs=4,
    encoder_lr=3e-2,
    optimiser="muon",
    noise="ar",
    input_noise=0.3,
    anchor_l2=0.01,
    micro_batch=5,
)
WHOLE_BY_MUON = ADAPTED.model_copy(update={"lora": None, "unfrozen": {"attention": (1, 2)}})
INSIDE_EPOCHS_BETWEEN_THEM_AND_IN_A_WRITE: list[Moment] = [
    ("step", 2),  # in epoch 1
    ("told", 2),  # after it: the first that is told is epoch 0, made in the life before
    ("write", 1),  # of epoch 2
    ("write", 2),  # of epoch 3
    ("step", 5),  # in epoch 4
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), "large", do_normalize=False)


@pytest.fixture(scope="module")
def encoder(saved: Path) -> Encoder:
    return load_encoder(str(saved))


# Killed


@pytest.mark.parametrize("options", [PLAIN, ADAPTED, WHOLE_BY_MUON], ids=["adamw", "adapters", "muon"])
def test_whenever_it_is_killed_it_ends_as_if_it_had_not_been(
    saved: Path, tmp_path: Path, options: Configuration
) -> None:
    folders = [tmp_path / name for name in ("calm", "killed")]
    for folder in folders:
        folder.mkdir()
        (folder / "encoder").symlink_to(saved)
    undisturbed = life(folders[0], options)
    for moment in INSIDE_EPOCHS_BETWEEN_THEM_AND_IN_A_WRITE:
        life(folders[1], options, moment)
    ended = life(folders[1], options)
    print(ended["computed"], ended["best"], undisturbed["score"], ended["seconds"])
    again = life(folders[1], options)
    print(again["computed"])
    for name, value in undisturbed.items():
        if name not in ("seconds", "computed"):
            assert ended[name].tobytes() == again[name].tobytes() == value.tobytes(), name
