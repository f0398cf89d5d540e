"""Sound comes out mono at 16 kHz whatever went in, or says why not."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from wav2bold.datasets.audio import SAMPLE_RATE_HZ, read_audio
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
