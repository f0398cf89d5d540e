"""Clips of SUPERB's data sets: sound files or stretches of them, as an encoder hears them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from wav2bold.datasets.audio import SAMPLE_RATE_HZ, read_audio
from wav2bold.datasets.files import check_readable
from wav2bold.errors import DataError


@dataclass(frozen=True)
class Clip:
    """A sound file, or a stretch of it.

    start, stop: samples at 16 kHz; stop None for the file's end.  gain: what samples are multiplied by.
    """

    path: Path
    start: int = 0
    stop: int | None = None
    gain: float = 1.0


def sound_of(clip: Clip) -> NDArray[np.float32]:
    """Its samples, (samples,) at 16 kHz. Raises DataError where there is no such sound."""
    sound = read_audio(clip.path)[clip.start : clip.stop]
    return sound if clip.gain == 1 else sound * np.float32(clip.gain)


def file_samples(path: Path) -> int:
    """Samples at 16 kHz that a file holds, by its header, to within one where it has another rate."""
    check_readable(path, "unpack the data set there again")
    try:
        header = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).rstrip(".")
        raise DataError(f"{path}: not audio ({reason})", "unpack the data set there again") from None
    return round(int(header.frames) * SAMPLE_RATE_HZ / int(header.samplerate))


def samples_of(clip: Clip) -> int:
    """Samples of a clip, as `file_samples` knows them."""
    end = file_samples(clip.path) if clip.stop is None else clip.stop
    return end - clip.start


def crops(path: Path, most: int, count: int) -> list[Clip]:
    """Stretches of at most `most` samples, so many and evenly spaced; a shorter file is one of its own."""
    samples = file_samples(path)
    if samples <= most:
        return [Clip(path)]
    starts = (
        np.linspace(0, samples - most, count).round().astype(int) if count > 1 else [(samples - most) // 2]
    )
    return [Clip(path, int(start), int(start) + most) for start in dict.fromkeys(starts)]


def digest_of(clips: Sequence[Clip], root: Path) -> str:
    """Content address of a list of clips: names below `root`, stretches, and sizes and times of the files.

    Raises DataError where a file isn't there.
    """
    hasher = hashlib.blake2b(digest_size=16)
    known: dict[Path, tuple[int, int]] = {}
    for clip in clips:
        if clip.path not in known:
            check_readable(clip.path, "unpack the data set there again")
            found = clip.path.stat()
            known[clip.path] = (found.st_size, found.st_mtime_ns)
        name = clip.path.relative_to(root).as_posix()
        hasher.update(repr((name, clip.start, clip.stop, clip.gain, *known[clip.path])).encode())
    return hasher.hexdigest()


def in_equal_lengths(
    clips: Sequence[Clip], samples_at_once: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """All clips, the shortest first, in batches of one length each: numbers (B,) and sounds (B, samples).

    Nothing is padded: wav2vec2-base's first convolution normalises over time, so silence behind a word
    would change its features. A batch holds one clip, or as many as `samples_at_once` allows.
    """
    order = sorted(range(len(clips)), key=lambda number: samples_of(clips[number]))
    numbers, sounds = list[int](), list[NDArray[np.float32]]()
    for number in order:
        sound = sound_of(clips[number])
        if sounds and (len(sound) != len(sounds[0]) or (len(sounds) + 1) * len(sound) > samples_at_once):
            yield np.array(numbers), np.stack(sounds)
            numbers, sounds = [], []
        numbers.append(number)
        sounds.append(sound)
    if sounds:
        yield np.array(numbers), np.stack(sounds)
