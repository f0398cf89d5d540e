"""Sound comes out mono at 16 kHz whatever went in, or says why not."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2bold.datasets.audio import CLIPPED_SAMPLES, SAMPLE_RATE_HZ, read_audio, read_story
from wav2bold.errors import DataError


def tone(rate_hz: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_tone_keeps_its_pitch_phase_and_length(tmp_path: Path, rate_hz: int, suffix: str) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(rate_hz, 1.0), rate_hz)
    heard = read_audio(path)
    assert heard.dtype == np.float32
    assert heard.shape == (SAMPLE_RATE_HZ,)
    inner = slice(1_000, -1_000)  # a resampler rings at both ends
    np.testing.assert_allclose(heard[inner], tone(SAMPLE_RATE_HZ, 1.0)[inner], atol=2e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(16_000, 0.5, 300), tone(16_000, 0.5, 700)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "two.wav"), (left + right) / 2, atol=1e-6)


def test_text_named_wav_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "story.wav"
    path.write_text("this is no sound")
    with pytest.raises(DataError) as caught:
        read_audio(path)
    assert str(path) in caught.value.what
    assert "not audio" in caught.value.what
    assert "WAV" in caught.value.cure


def test_silence_of_no_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0), 16_000)
    with pytest.raises(DataError, match=r"empty\.wav: holds no sound \(0 samples\); replace it"):
        read_audio(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.wav: no such file; put the story's sound there"):
        read_audio(tmp_path / "gone.wav")


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.1]), 16_000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"nan\.wav: holds samples that are not numbers"):
        read_audio(tmp_path / "nan.wav")


@pytest.mark.parametrize(
    ("subtype", "suffix", "step"),
    [
        ("PCM_U8", "wav", 2**-7),
        ("PCM_16", "wav", 2**-15),
        ("PCM_24", "wav", 2**-23),
        ("PCM_24", "flac", 2**-23),
        ("PCM_32", "wav", 2**-24),  # float32 holds 24 bits
        ("FLOAT", "wav", 2**-24),
        ("DOUBLE", "wav", 2**-24),
    ],
)
def test_every_depth_is_heard_to_its_step(tmp_path: Path, subtype: str, suffix: str, step: float) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(16_000, 0.2), 16_000, subtype=subtype)
    assert soundfile.info(path).subtype == subtype
    np.testing.assert_allclose(read_audio(path), tone(16_000, 0.2), atol=1.01 * step)


def test_six_channels_at_44_1_khz_are_their_mean_at_16(tmp_path: Path) -> None:
    pitches = [200, 310, 420, 530, 640, 750]
    channels = np.stack([tone(44_100, 1.0, hz) for hz in pitches], axis=1)
    soundfile.write(tmp_path / "surround.wav", channels, 44_100, subtype="PCM_24")
    inner = slice(1_000, -1_000)
    expected = np.mean([tone(16_000, 1.0, hz) for hz in pitches], axis=0)
    np.testing.assert_allclose(read_audio(tmp_path / "surround.wav")[inner], expected[inner], atol=2e-3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_clipping_is_told_with_its_place(tmp_path: Path, subtype: str, sign: float) -> None:
    sound = 0.5 * tone(16_000, 3.0)
    sound[32_000 : 32_000 + CLIPPED_SAMPLES] = sign
    soundfile.write(tmp_path / "story.wav", sound, 16_000, subtype=subtype)
    assert read_story(tmp_path / "story.wav").doubts == ()
    sound[40_000 : 40_000 + CLIPPED_SAMPLES + 1] = sign
    soundfile.write(tmp_path / "story.wav", sound, 16_000, subtype=subtype)
    assert read_story(tmp_path / "story.wav").doubts == (
        "is clipped: over 10 samples in a row at full scale once at 2.5 s",
    )
    sound[16_000:16_500] = sign
    soundfile.write(tmp_path / "story.wav", sound, 16_000, subtype=subtype)
    (doubt,) = read_story(tmp_path / "story.wav").doubts
    assert doubt.endswith("at full scale 2 times, first at 1.0 s")


def test_a_loud_sine_is_not_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", 2 * tone(44_100, 1.0, 100.0), 44_100)
    assert np.abs(read_audio(tmp_path / "loud.wav")).max() > 0.999
    assert read_story(tmp_path / "loud.wav").doubts == ()


def test_a_long_pause_is_told(tmp_path: Path) -> None:
    second = tone(16_000, 1.0)
    sound = np.concatenate([second, np.zeros(31 * 16_000), second, np.zeros(29 * 16_000)])
    soundfile.write(tmp_path / "pause.wav", sound, 16_000)
    assert read_story(tmp_path / "pause.wav").doubts == ("is silent from 1.0 to 32.0 s",)


def test_a_silent_story_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hush.wav", np.zeros(16_000), 16_000)
    with pytest.raises(DataError, match=r"hush\.wav: holds only silence; replace it with the recording"):
        read_story(tmp_path / "hush.wav")


def test_channels_that_cancel_are_refused(tmp_path: Path) -> None:
    one = tone(16_000, 0.5)
    soundfile.write(tmp_path / "two.wav", np.stack([one, -one], axis=1), 16_000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"two\.wav: its channels cancel each other when averaged; give one"):
        read_story(tmp_path / "two.wav")
