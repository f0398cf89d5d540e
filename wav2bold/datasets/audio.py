"""Sound files as the speech model hears them: mono, 16 kHz."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from wav2bold.errors import DataError

SAMPLE_RATE_HZ = 16_000


def read_audio(path: Path) -> NDArray[np.float32]:
    """The sound in any file that libsndfile reads, as mono at 16 kHz.

    Returns (samples,) float32 within about -1 to 1; channels are averaged.
    Raises DataError if there is no such file, it is no sound, it holds none, or holds NaN.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", "put the story's sound there")
    try:
        channels, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).rstrip(".")
        raise DataError(f"{path}: not audio ({reason})", "give a WAV, FLAC, OGG or MP3 file") from None
    if not len(channels):
        raise DataError(f"{path}: holds no sound (0 samples)", "replace it with the whole recording")
    mono: NDArray[np.float32] = channels.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise DataError(f"{path}: holds samples that are not numbers", "export it again as 16-bit WAV")
    if rate_hz == SAMPLE_RATE_HZ:
        return mono
    return np.asarray(soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ), dtype=np.float32)
