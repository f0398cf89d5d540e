"""How much a configuration trains, counted before it is trained, is what stage 2 then trains."""

from pathlib import Path

import pytest
from listeners import save_small_wav2vec2

from wav2bold.config import Configuration, Lora
from wav2bold.trainables.counting import trained_count
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.unfreezing import unfreeze


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(Path(tmp_path_factory.mktemp("encoder")))))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unfrozen": {}},
        {"unfrozen": {"conv": None, "attention": (1, 1), "bias": (0, 1)}},
        {"unfrozen": {"attention": None}, "layers": 1},
        {"lora": Lora(rank=3, targets=("feed_forward",), layers=(1, 2)), "unfrozen": {"layer_norm": None}},
    ],
)
def test_what_is_counted_is_what_gets_a_gradient(encoder: Encoder, options: dict[str, object]) -> None:
    configuration = Configuration(**options)
    model = unfreeze(encoder, configuration).model
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert trained_count(encoder, configuration) == trained


def test_what_the_encoder_can_not_be_refined_with_has_no_count(encoder: Encoder) -> None:
    assert trained_count(encoder, Configuration(unfrozen={"attention": (0, 99)})) is None
