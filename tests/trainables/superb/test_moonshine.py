"""A published encoder of another plan is read as transformers reads it, and betters random weights."""

import os
from pathlib import Path

import corpora
import numpy as np
import pytest
import torch
from listeners import speech
from moonshine import save_moonshine
from real_data import UnavailableError, moonshine

from wav2bold.errors import EncoderError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.superb.hidden import all_states
from wav2bold.trainables.superb.protocol import Options
from wav2bold.trainables.superb.scoring import score_tasks

SHORT = Options(updates=300, rates=(1e-2, 1e-3))
SEEDS = (1, 2)
LEAST = {"ks": 0.15, "ic": 0.15}
"""By how much it must be better than the best of random ones, which it is by 0.26 and 0.33."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        moonshine()
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"can't be fetched: {error}")
    return save_moonshine(tmp_path_factory.mktemp("moonshine"))


def test_hidden_states_of_moonshine_are_those_of_transformers(tmp_path: Path) -> None:
    encoder = load_encoder(str(save_moonshine(tmp_path, seed=1)), only_reads=True)
    sound = speech(1.3, 0)
    found = all_states(encoder, sound[None])
    with torch.no_grad():
        told = encoder.model(torch.from_numpy(sound[None]), output_hidden_states=True)
    assert found.shape == (7, 1, encoder.frames(len(sound)), 288)
    truth = torch.stack([*told.hidden_states[:-1], told.last_hidden_state])
    torch.testing.assert_close(found, truth)


def test_moonshine_is_not_refined(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="of the family moonshine, which is not taken; give an encoder of"):
        load_encoder(str(save_moonshine(tmp_path, seed=1)))


def test_a_pretrained_encoder_beats_random_weights_of_its_architecture_on_real_clips(
    published: Path, tmp_path: Path
) -> None:
    corpora.speech_commands(tmp_path / "data")
    corpora.fluent_speech_commands(tmp_path / "data", 8)
    folders = {"published": published} | {
        str(seed): save_moonshine(tmp_path / str(seed), seed=seed) for seed in SEEDS
    }
    store = ActivationStore(tmp_path / "store")
    values: dict[str, dict[str, float]] = {name: {} for name in LEAST}
    for who, folder in folders.items():
        encoder = load_encoder(str(folder), only_reads=True)
        for name in LEAST:
            score, _ = score_tasks(encoder, [name], tmp_path / "data", tmp_path / who, store, SHORT)[name]
            values[name][who] = score.value
    for name, least in LEAST.items():
        random = [values[name][str(seed)] for seed in SEEDS]
        assert values[name]["published"] > np.max(random) + least
