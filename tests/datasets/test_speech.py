"""Stories are of the wanted length, are made once, and share no recording."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from wav2bold.datasets import speech
from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.speech import joined, synthesised, without_silence
from wav2bold.errors import DataError, UserError


def tone(hz: float, seconds: float, rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


class Voice:
    """A stand-in for hibari: one second of a tone per sentence. Counts the texts it speaks."""

    spoken = 0

    def __init__(self, threads: int) -> None:
        assert threads == 1

    def stream(self, text: str, seed: int) -> Iterator[np.ndarray]:
        Voice.spoken += 1
        for _ in text.split("."):
            yield tone(200 + len(text) % 97, 1.0, 24_000).astype(np.float32)


@pytest.fixture
def voice(monkeypatch: pytest.MonkeyPatch) -> type[Voice]:
    module = ModuleType("hibari")
    module.Hibari, module.SAMPLE_RATE = Voice, 24_000
    monkeypatch.setitem(sys.modules, "hibari", module)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0")
    Voice.spoken = 0
    return Voice


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Twelve recordings of 10 s, each of its own pitch, in two folders and three formats."""
    for number in range(12):
        suffix = ("wav", "flac", "ogg")[number % 3]
        path = tmp_path / "recordings" / f"speaker{number % 2}" / f"{number:02d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(200 + 100 * number, 10.0), SAMPLE_RATE_HZ)
    return tmp_path / "recordings"


def pitches(sound: np.ndarray) -> set[int]:
    """Pitches heard in a sound made of tones, rounded to 100 Hz."""
    frames = sound[: len(sound) // 1600 * 1600].reshape(-1, 1600)
    frames = frames[np.sqrt(np.mean(frames**2, axis=1)) > 0.04]
    return {round(int(np.argmax(np.abs(np.fft.rfft(frame)))) * 10 / 100) * 100 for frame in frames}


def test_eight_stories_are_packed_with_ids_that_bids_takes_as_tasks() -> None:
    texts = speech._texts()
    assert len(texts) == 8
    for name, text in texts.items():
        assert name.isalnum()
        assert len(text.split()) >= 820
        assert text.isascii()


def test_a_story_that_was_spoken_once_is_not_spoken_again(tmp_path: Path, voice: type[Voice]) -> None:
    first = synthesised(3, 20, tmp_path)
    assert voice.spoken == 3
    second = synthesised(4, 20, tmp_path)
    assert voice.spoken == 4
    assert list(second)[:3] == list(first)
    for name, sound in first.items():
        np.testing.assert_array_equal(sound, second[name])
    assert not list(tmp_path.glob("*.partial"))


def test_a_text_that_changed_is_spoken_again(
    tmp_path: Path, voice: type[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesised(1, 2, tmp_path)
    monkeypatch.setattr(speech, "_texts", lambda: {"bakery": "One. Two. Three. Four. Five."})
    told = synthesised(1, 2, tmp_path)["bakery"]
    assert voice.spoken == 2
    assert len(told) == 2 * SAMPLE_RATE_HZ


def test_sentences_are_parted_by_silence_and_brought_to_a_level(tmp_path: Path, voice: type[Voice]) -> None:
    (sound,) = synthesised(1, 13.0, tmp_path).values()
    assert len(sound) == 13 * SAMPLE_RATE_HZ
    assert sound.dtype == np.float32
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(speech.LEVEL, rel=0.01)
    period = round(1.3 * SAMPLE_RATE_HZ)
    quiet = sound.reshape(10, period)[:, round(1.02 * SAMPLE_RATE_HZ) : round(1.28 * SAMPLE_RATE_HZ)]
    assert np.abs(quiet).max() < 1e-3


def test_each_story_done_is_reported(tmp_path: Path, voice: type[Voice]) -> None:
    done: list[str] = []
    told = synthesised(3, 5, tmp_path, done.append)
    assert done == list(told) == ["bakery", "clockmaker", "ferry"]


def test_more_stories_than_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        synthesised(9, 60, tmp_path)
    assert str(caught.value) == (
        "9 stories are wanted, there are 8 to be spoken; "
        "ask for --stories 8 or give recordings with --speech DIR"
    )


def test_a_story_that_is_too_short_says_how_long_it_is(
    tmp_path: Path, voice: type[Voice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "_texts", lambda: {"long": ". " * 99, "short": ". " * 60})
    with pytest.raises(DataError) as caught:
        synthesised(2, 120, tmp_path)
    assert str(caught.value) == (
        "the story short lasts 1.3 minutes, 2 are wanted; "
        "ask for --minutes 1.3 or give recordings with --speech DIR"
    )
    synthesised(2, 1.3 * 60, tmp_path)


@pytest.mark.parametrize("lacking", ["metadata", "module"])
def test_without_the_synthesiser_its_cure_is_named(
    tmp_path: Path, voice: type[Voice], monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "module":
        monkeypatch.setitem(sys.modules, "hibari", None)
    else:

        def absent(name: str) -> str:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(UserError) as caught:
        synthesised(1, 5, tmp_path)
    assert str(caught.value) == (
        "stories can't be spoken without the package hibari-tts; "
        'pip install "wav2bold[demo]", or give recordings with --speech DIR'
    )


@pytest.mark.slow
def test_the_synthesiser_speaks_each_text_for_five_minutes(tmp_path: Path) -> None:
    pytest.importorskip("hibari")
    told = synthesised(8, 300, tmp_path)
    assert {len(sound) for sound in told.values()} == {300 * SAMPLE_RATE_HZ}
    for sound in told.values():
        assert np.abs(sound).max() < 1
        frames = np.sqrt(np.mean(sound.reshape(-1, 16_000) ** 2, axis=1))
        assert np.mean(frames > 0.01) > 0.85  # few seconds fall into a pause


def test_no_recording_serves_two_stories(tones: Path) -> None:
    told = joined(tones, 3, 35.0, seed=1)
    assert list(told) == ["story01", "story02", "story03"]
    heard = [pitches(sound) for sound in told.values()]
    for sound, served in zip(told.values(), heard, strict=True):
        assert sound.dtype == np.float32
        assert len(sound) == 35 * SAMPLE_RATE_HZ
        assert len(served) == 4
    assert len(set.union(*heard)) == 12


def test_a_seed_gives_the_same_stories_and_another_seed_gives_others(tones: Path) -> None:
    one, same, other = (joined(tones, 2, 30.0, seed) for seed in (1, 1, 2))
    for name, sound in one.items():
        np.testing.assert_array_equal(sound, same[name])
    assert any(pitches(sound) != pitches(other[name]) for name, sound in one.items())


def test_recordings_are_brought_to_one_level(tmp_path: Path) -> None:
    for name, loudness in (("loud", 3.0), ("faint", 0.1)):
        soundfile.write(tmp_path / f"{name}.wav", loudness * tone(300, 5), SAMPLE_RATE_HZ)
    for sound in joined(tmp_path, 2, 4.0, seed=0).values():
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(speech.LEVEL, rel=0.01)


def test_long_silence_is_cut_and_short_pauses_stay() -> None:
    def quiet(seconds: float) -> np.ndarray:
        return np.zeros(round(seconds * SAMPLE_RATE_HZ))

    parts = [quiet(2), tone(300, 1), quiet(0.2), tone(300, 1), quiet(3), tone(300, 1), quiet(2)]
    left = without_silence(np.concatenate(parts).astype(np.float32))
    assert len(left) / SAMPLE_RATE_HZ == pytest.approx(0.14 + 2.2 + 0.28 + 1 + 0.14, abs=0.05)
    assert np.sum(left**2) == pytest.approx(sum(np.sum(part**2) for part in parts), rel=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 319, 32_000])
def test_nothing_is_left_of_silence(samples: int) -> None:
    assert without_silence(np.zeros(samples, np.float32)).shape == (0,)


def test_recordings_of_silence_serve_no_story(tones: Path) -> None:
    soundfile.write(tones / "hush.wav", np.zeros(50 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    heard = [pitches(sound) for sound in joined(tones, 3, 40.0, seed=0).values()]
    assert [len(served) for served in heard] == [4, 4, 4]


def test_too_little_speech_names_what_would_suffice_and_it_does(tones: Path) -> None:
    with pytest.raises(DataError) as caught:
        joined(tones, 4, 45.0, seed=0)
    assert caught.value.what == (
        f"{tones}: 12 recordings give 2.0 minutes of speech, 4 stories of 0.75 minutes need 3 "
        "and no recording serves two"
    )
    assert caught.value.cure == "add recordings or give --minutes 0.5"
    assert len(joined(tones, 4, 0.5 * 60, seed=0)) == 4


def test_too_little_speech_names_fewer_stories_where_they_suffice(tones: Path) -> None:
    with pytest.raises(DataError, match=r"; add recordings or give --minutes 0\.5 or give --stories 3$"):
        joined(tones, 4, 36.0, seed=0)
    assert len(joined(tones, 3, 36.0, seed=0)) == 3


def test_a_file_that_is_not_audio_is_named(tones: Path) -> None:
    (tones / "notes.wav").write_text("not a sound at all")
    with pytest.raises(DataError, match=r"notes\.wav: not audio"):
        joined(tones, 12, 10.0, seed=0)


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing to hear")
    with pytest.raises(DataError) as caught:
        joined(tmp_path, 3, 60.0, seed=0)
    assert str(caught.value) == (
        f"{tmp_path}: holds no recordings; looked for .wav, .flac, .ogg, .mp3, .g722 files"
    )


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: no such folder; give a folder of recordings"):
        joined(tmp_path / "gone", 3, 60.0, seed=0)


def write_g722(path: Path, sound: np.ndarray) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=SAMPLE_RATE_HZ, layout="mono")
        samples = (sound * 32_767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate = SAMPLE_RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def test_g722_keeps_its_pitch(tmp_path: Path) -> None:
    write_g722(tmp_path / "prompt.g722", tone(700, 4.0))
    (sound,) = joined(tmp_path, 1, 3.0, seed=0).values()
    assert pitches(sound) == {700}


def test_an_empty_g722_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "prompt.g722").touch()
    with pytest.raises(DataError, match=r"prompt\.g722: (not audio|holds no sound)"):
        joined(tmp_path, 1, 3.0, seed=0)


def test_without_a_g722_decoder_its_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompt.g722").write_bytes(bytes(800))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError) as caught:
        joined(tmp_path, 1, 3.0, seed=0)
    assert str(caught.value) == (
        f"{tmp_path / 'prompt.g722'}: G.722 can't be read without the package av; "
        'pip install "wav2bold[demo]"'
    )
