"""Sound files as the speech model hears them: mono, 16 kHz."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from wav2bold.datasets.files import check_readable
from wav2bold.errors import DataError

SAMPLE_RATE_HZ = 16_000


CLIPPED_SAMPLES = 10
"""Samples in a row at full scale that no loud but whole recording has."""
SILENT = 1e-4
"""Highest sample of silence, -80 dB: the noise of 16 bits."""
PAUSE_S = 30
"""Longest pause that nobody wonders about."""
PCM_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


@dataclass(frozen=True, eq=False)
class Sound:
    """samples: (samples,) float32 at 16 kHz, within about -1 to 1.  doubts: what is odd, a phrase each."""

    samples: NDArray[np.float32]
    doubts: tuple[str, ...]


def read_audio(path: Path) -> NDArray[np.float32]:
    """The sound in any file that libsndfile reads, as mono at 16 kHz.

    Returns (samples,) float32 within about -1 to 1; channels are averaged.
    Raises DataError if there is no such file, it is no sound, it holds none, or holds NaN.
    """
    channels, rate_hz, _ = _read(path)
    return _mono(channels, rate_hz)


def read_story(path: Path) -> Sound:
    """The sound of a story, and what is odd about it: clipping, long silence.

    Raises DataError as `read_audio` does, and if all of it is silent.
    """
    channels, rate_hz, highest = _read(path)
    samples = _mono(channels, rate_hz)
    if np.abs(samples).max() <= SILENT:
        if np.abs(channels).max() > SILENT:
            raise DataError(f"{path}: its channels cancel each other when averaged", "give one channel of it")
        raise DataError(f"{path}: holds only silence", "replace it with the recording that was played")
    return Sound(samples, (*_clipping(channels, rate_hz, highest), *_silence(samples)))


def _read(path: Path) -> tuple[NDArray[np.float32], int, float]:
    """(samples, channels) at the file's own rate, that rate, and the highest value that the file can hold."""
    check_readable(path, "put the story's sound there")
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz, bits = file.samplerate, PCM_BITS.get(file.subtype)
            channels = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).rstrip(".")
        raise DataError(f"{path}: not audio ({reason})", "give a WAV, FLAC, OGG or MP3 file") from None
    if not len(channels):
        raise DataError(f"{path}: holds no sound (0 samples)", "replace it with the whole recording")
    if not np.isfinite(channels).all():
        raise DataError(f"{path}: holds samples that are not numbers", "export it again as 16-bit WAV")
    return channels, rate_hz, 1.0 if bits is None else 1 - 2.0 ** (1 - bits)


def _mono(channels: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    mono: NDArray[np.float32] = channels.mean(axis=1, dtype=np.float32)
    if rate_hz == SAMPLE_RATE_HZ:
        return mono
    return np.asarray(soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ), dtype=np.float32)


def _clipping(channels: NDArray[np.float32], rate_hz: int, highest: float) -> tuple[str, ...]:
    stretches = _stretches(
        np.asarray((np.abs(channels) >= np.float32(highest)).any(axis=1)), CLIPPED_SAMPLES + 1
    )
    if not len(stretches):
        return ()
    times = "once" if len(stretches) == 1 else f"{len(stretches)} times, first"
    at_s = stretches[0, 0] / rate_hz
    return (f"is clipped: over {CLIPPED_SAMPLES} samples in a row at full scale {times} at {at_s:.1f} s",)


def _silence(samples: NDArray[np.float32]) -> tuple[str, ...]:
    stretches = _stretches(np.abs(samples) <= SILENT, PAUSE_S * SAMPLE_RATE_HZ)
    return tuple(
        f"is silent from {start / SAMPLE_RATE_HZ:.1f} to {stop / SAMPLE_RATE_HZ:.1f} s"
        for start, stop in stretches
    )


def _stretches(where: NDArray[np.bool_], least: int) -> NDArray[np.int64]:
    """First sample, and the one after the last, of every stretch of at least so many: (stretches, 2)."""
    edges = np.flatnonzero(np.diff(where, prepend=False, append=False)).reshape(-1, 2)
    return np.asarray(edges[edges[:, 1] - edges[:, 0] >= least])
