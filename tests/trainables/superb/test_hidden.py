"""Hidden states are transformers' own, of clips that are heard by themselves, and heard once."""

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
from wav2bold.trainables.superb import hidden
from wav2bold.trainables.superb.clips import Clip, in_equal_lengths, sound_of
from wav2bold.trainables.superb.hidden import pooled

SECONDS = (0.5, 0.31, 0.5, 0.8, 0.31, 0.5)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    for number, seconds in enumerate(SECONDS):
        corpora.write(tmp_path / "clips" / f"{number}.wav", speech(seconds, number))
    return [Clip(tmp_path / "clips" / f"{number}.wav") for number in range(len(SECONDS))]


def by_transformers(encoder: Encoder, sound: np.ndarray) -> np.ndarray:
    """(L, F, D) of one clip."""
    heard = encoder.extractor(sound, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        told = encoder.model(heard.input_values, output_hidden_states=True)
    # transformers' last one is that before the large models' last norm; SUPERB takes the output
    return torch.cat([*told.hidden_states[:-1], told.last_hidden_state]).numpy()


@pytest.mark.parametrize(
    "kind", ["wav2vec2-base", "wav2vec2-large", "hubert-base", "wavlm-base", "data2vec-base"]
)
@pytest.mark.parametrize("normalised", [True, False])
def test_means_are_those_of_transformers_hidden_states_of_each_clip_alone(
    kind: str, normalised: bool, clips: list[Clip], tmp_path: Path
) -> None:
    encoder = load_encoder(str(save_small(tmp_path / kind, kind, do_normalize=normalised)))
    found = pooled(encoder, ActivationStore(tmp_path / "store"), clips, tmp_path)
    states = [by_transformers(encoder, sound_of(clip)) for clip in clips]
    means = found.means(np.arange(len(clips)))
    np.testing.assert_allclose(means, [one.mean(1) for one in states], atol=2e-4)
    lengths = np.mean([np.linalg.norm(one, axis=2).mean(1) for one in states], axis=0)
    np.testing.assert_allclose(found.lengths(), lengths, rtol=1e-4)


def test_clips_come_in_batches_of_one_length_without_padding(clips: list[Clip]) -> None:
    batches = list(in_equal_lengths(clips, samples_at_once=20_000))
    assert sorted(number for numbers, _ in batches for number in numbers) == list(range(len(clips)))
    assert [sounds.shape for _, sounds in batches] == [(2, 4960), (2, 8000), (1, 8000), (1, 12_800)]
    for numbers, sounds in batches:
        for number, sound in zip(numbers, sounds, strict=True):
            np.testing.assert_array_equal(sound, sound_of(clips[number]))


def test_a_stretch_is_cut_and_turned_down(clips: list[Clip]) -> None:
    whole = sound_of(clips[0])
    part = sound_of(Clip(clips[0].path, 100, 300, gain=0.5))
    np.testing.assert_allclose(part, whole[100:300] / 2)


def test_each_clip_is_heard_once_whoever_asks_and_a_list_goes_on_where_it_was(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(save_small(tmp_path / "encoder", "wav2vec2-base")))
    monkeypatch.setattr(hidden, "CLIPS_IN_FILE", 4)
    heard: list[int] = []
    states = hidden.all_states

    def counted(encoder: Encoder, sounds: np.ndarray) -> torch.Tensor:
        heard.append(len(sounds))
        return states(encoder, sounds)

    monkeypatch.setattr(hidden, "all_states", counted)
    found = pooled(encoder, ActivationStore(tmp_path / "store"), clips, tmp_path)
    assert sum(heard) == len(clips)
    again = pooled(encoder, ActivationStore(tmp_path / "store"), clips[:5], tmp_path)
    assert sum(heard) == len(clips) + 1, "the first four were stored"
    np.testing.assert_array_equal(again.means(np.array([4, 0])), found.means(np.array([4, 0])))


def test_a_clip_too_short_for_a_frame_is_named(tmp_path: Path) -> None:
    encoder = load_encoder(str(save_small(tmp_path / "encoder", "wav2vec2-base")))
    corpora.write(tmp_path / "tick.wav", np.full(399, 0.1, np.float32))
    with pytest.raises(DataError, match=r"tick\.wav: 399 samples, a frame takes 400"):
        pooled(encoder, ActivationStore(tmp_path / "store"), [Clip(tmp_path / "tick.wav")], tmp_path)
