"""What a cochlea knows of speech: log-mel energies and the envelope, per TR of the history."""

# N windows, n TRs of history, F frames, M mel bands

import numpy as np
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows, window_length

BANDS = 40
FRAME, STEP = 400, 160
"""Samples: 25 ms every 10 ms, as speech recognisers hear."""
FLOOR = 1e-10
"""Lowest energy, -100 dB: the logarithm of silence."""
FRAMES_AT_ONCE = 6000


def low_level(shards: Shards, some: Windows, history: int) -> NDArray[np.float32]:
    """(N, n * (M + 1)): in each TR of each window, means of M log-mel energies and of the envelope.

    The TRs of the history are the delays by which the head learns the haemodynamic response, as it does with
    an encoder's features. A frame belongs to the TR in which it ends: none hears what comes later.
    """
    tr_s = shards.card.tr_s
    found = np.zeros((len(some), history, BANDS + 1), np.float32)
    for story in dict.fromkeys(some.story):
        rows = np.flatnonzero(some.story == story)
        frames = spectrum(shards.audio(str(story)))
        sums = np.concatenate([np.zeros((1, BANDS + 1)), np.cumsum(frames, axis=0, dtype=np.float64)])
        edges = some.stop[rows, None] - np.array(
            [window_length(tr_s, back) for back in range(history, -1, -1)]
        )
        # frames that have ended by an edge: frame i ends after STEP * i + FRAME samples
        ended = np.clip((edges - FRAME) // STEP + 1, 0, len(frames))
        count = np.diff(ended, axis=1)[:, :, None]
        found[rows] = np.diff(sums[ended], axis=1) / np.maximum(count, 1)
    return found.reshape(len(some), -1)


def spectrum(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """(F, M + 1) of a sound: log10 of each frame's energy in mel bands up to 8 kHz, and its level (RMS)."""
    bank = mel_filter_bank(FRAME // 2 + 1, BANDS, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ)
    window = np.hanning(FRAME + 1)[:-1]
    if len(audio) < FRAME:
        return np.zeros((0, BANDS + 1), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME)[::STEP]
    found = np.zeros((len(frames), BANDS + 1), np.float32)
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        some = frames[first : first + FRAMES_AT_ONCE].astype(np.float64)
        power = np.abs(np.fft.rfft(some * window)) ** 2
        found[first : first + len(some), :BANDS] = np.log10(np.maximum(power @ bank, FLOOR))
        found[first : first + len(some), BANDS] = np.sqrt((some**2).mean(1))
    return found
