"""Frames on disk are those that are heard, as far as the bound goes, and nobody hears them again."""

from pathlib import Path

import corpora
import numpy as np
import pytest
import torch
from listeners import speech
from small_encoders import save_small

from wav2bold.errors import DataError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.superb import listening
from wav2bold.trainables.superb.clips import Clip
from wav2bold.trainables.superb.listening import Listener, Shelf
from wav2bold.trainables.superb.protocol import Options
from wav2bold.trainables.superb.scoring import score_tasks

SECONDS = (0.5, 0.31, 0.9, 0.8, 0.44, 0.5)
ROWS = np.arange(len(SECONDS))
"""The utterances give 24, 15, 44, 39, 21 and 24 frames."""


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    paths = [tmp_path / "clips" / f"{number}.wav" for number in range(len(SECONDS))]
    for number, path in enumerate(paths):
        corpora.write(path, speech(SECONDS[number], number))
    return [Clip(path) for path in paths]


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return load_encoder(str(save_small(tmp_path / "encoder", "wav2vec2-base")))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Samples of each sound that an encoder heard; nothing is remembered in memory."""
    found: list[int] = []
    states = listening.all_states

    def counted(encoder: Encoder, sounds: np.ndarray) -> torch.Tensor:
        found.append(sounds.shape[1])
        return states(encoder, sounds)

    monkeypatch.setattr(listening, "all_states", counted)
    monkeypatch.setattr(listening, "BYTES_KEPT", 0)
    return found


@pytest.fixture
def frame_bytes(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of all hidden states of a frame; a file holds 70 of them."""
    size = 4 * (encoder.layers + 1) * encoder.model.config.hidden_size
    monkeypatch.setattr(listening, "BYTES_IN_FILE", 70 * size)
    return size


def everything(listener: Listener) -> list[torch.Tensor]:
    """Hidden states of all utterances, in their order."""
    found: dict[int, torch.Tensor] = {}
    for places, states in listener(ROWS):
        found |= dict(zip(places, states, strict=True))
    return [found[row] for row in ROWS]


def test_what_is_stored_is_heard_once_and_equals_what_is_heard_to_the_last_bit(
    clips: list[Clip], encoder: Encoder, heard: list[int], frame_bytes: int, tmp_path: Path
) -> None:
    unstored = everything(Listener(encoder, clips))
    assert len(heard) == 6
    store = ActivationStore(tmp_path / "store", max_gb=1)
    listener = Listener(encoder, clips, Shelf(store, tmp_path))
    epochs = [everything(listener) for _ in range(2)]
    again = Listener(encoder, clips, Shelf(ActivationStore(tmp_path / "store", max_gb=1), tmp_path))
    epochs.append(everything(again))
    assert len(heard) == 6 + 6, "neither a second epoch nor a second run hears"
    for epoch in epochs:
        for own, truth in zip(epoch, unstored, strict=True):
            assert own.shape == truth.shape
            assert torch.equal(own, truth)
    files = list((tmp_path / "store").rglob("*.safetensors"))
    assert len(files) == 4, "24 + 15, 44, 39 + 21 and 24 frames"


def test_utterances_are_mapped_not_copied(
    clips: list[Clip], encoder: Encoder, frame_bytes: int, tmp_path: Path
) -> None:
    shelf = Shelf(ActivationStore(tmp_path / "store", max_gb=1), tmp_path)
    first, second = everything(Listener(encoder, clips, shelf))[:2]
    assert second.data_ptr() == first.data_ptr() + first.nbytes


def test_frames_are_stored_as_far_as_the_bound_goes_and_the_others_heard_each_time(
    clips: list[Clip], encoder: Encoder, heard: list[int], frame_bytes: int, tmp_path: Path
) -> None:
    truth = everything(Listener(encoder, clips))
    heard.clear()
    max_gb = 1e-9 * (100 * frame_bytes + 3000)  # beside 99 frames of the last three files, headers
    listener = Listener(encoder, clips, Shelf(ActivationStore(tmp_path / "store", max_gb), tmp_path))
    for _ in range(3):
        for own, states in zip(everything(listener), truth, strict=True):
            assert torch.equal(own, states)
    assert len(heard) > 6
    held = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.safetensors"))
    assert 0 < held <= max_gb * 1e9
    heard.clear()
    everything(listener)
    assert 0 < len(heard) < 6


def test_another_encoder_never_drives_out_frames_in_use(
    clips: list[Clip], encoder: Encoder, heard: list[int], frame_bytes: int, tmp_path: Path
) -> None:
    other = load_encoder(str(save_small(tmp_path / "other", "wav2vec2-base", seed=1)))
    max_gb = 1e-9 * (170 * frame_bytes + 4 * 1000)  # for one of the two: 167 frames
    listeners = [
        Listener(one, clips, Shelf(ActivationStore(tmp_path / "store", max_gb), tmp_path))
        for one in (encoder, other)
    ]
    everything(listeners[0])
    everything(listeners[1])
    heard.clear()
    everything(listeners[0])
    assert not heard


def test_without_a_bound_no_frames_are_stored(clips: list[Clip], encoder: Encoder, tmp_path: Path) -> None:
    everything(Listener(encoder, clips, Shelf(ActivationStore(tmp_path / "store"), tmp_path)))
    assert not list(tmp_path.rglob("store/*/*"))


def test_a_clip_too_short_for_a_frame_is_named_where_frames_are_stored(
    encoder: Encoder, tmp_path: Path
) -> None:
    corpora.write(tmp_path / "tick.wav", np.full(399, 0.1, np.float32))
    shelf = Shelf(ActivationStore(tmp_path / "store", max_gb=1), tmp_path)
    with pytest.raises(DataError, match=r"tick\.wav: 399 samples, a frame takes 400"):
        next(Listener(encoder, [Clip(tmp_path / "tick.wav")], shelf)(np.array([0])))


def test_stored_frames_change_no_score_and_a_second_run_asks_the_encoder_nothing(
    heard: list[int], tmp_path: Path
) -> None:
    corpora.librispeech(tmp_path / "data", same=True)
    encoder = load_encoder(str(corpora.save_hearer(tmp_path / "hearer")))
    options = Options(updates=4, rates=(1e-2,))
    unstored = ActivationStore(tmp_path / "unstored")
    truth, _ = score_tasks(encoder, ["pr"], tmp_path / "data", tmp_path / "a", unstored, options)["pr"]
    once = len(heard)
    store = ActivationStore(tmp_path / "store", max_gb=1)
    found, _ = score_tasks(encoder, ["pr"], tmp_path / "data", tmp_path / "b", store, options)["pr"]
    assert found.to_json() == truth.to_json()
    assert len(heard) == once + 30 < 2 * once, "each of the three parts' ten utterances once"
    again, kept = score_tasks(encoder, ["pr"], tmp_path / "data", tmp_path / "c", store, options)["pr"]
    assert not kept
    assert again.to_json() == truth.to_json()
    assert len(heard) == once + 30
