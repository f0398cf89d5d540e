"""Stories to hear: spoken by a synthesiser, or joined from any folder of recordings."""

import functools
import hashlib
import importlib.metadata
import importlib.resources
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from wav2bold.datasets.audio import SAMPLE_RATE_HZ, read_audio
from wav2bold.errors import DataError, UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".g722")
GAP_S = 0.3
"""Silence after a sentence, and after a recording."""
LEVEL = 0.05
"""Root mean square of a story, full scale being 1: peaks of speech then stay below 1."""
FRAME_S = 0.02
PAUSE_FRAMES = 7
"""Frames of silence kept on either side of speech: pauses of up to 0.28 s stay as they are."""
SILENT_BELOW = 0.02
"""Share of the loudest frame's level (-34 dB) under which a frame is silent."""
NOTHING_BELOW = 1e-3
"""Level of the loudest frame (-60 dB of full scale) under which there is no speech."""


def synthesised(
    stories: int, seconds: float, cache: Path, progress: Callable[[str], None] = lambda _: None
) -> dict[str, NDArray[np.float32]]:
    """The first `stories` of the package's stories as hibari-tts speaks them, (samples,) each at 16 kHz.

    Each is cut at `seconds`. Whole stories are kept as FLAC in `cache`, so each is spoken only once.
    progress: called with the name of each story that is done.
    Raises DataError if there are fewer stories or they are shorter, UserError without hibari-tts.
    """
    texts = _texts()
    if stories > len(texts):
        raise DataError(
            f"{stories} stories are wanted, there are {len(texts)} to be spoken",
            f"ask for --stories {len(texts)} or give recordings with --speech DIR",
        )
    told: dict[str, NDArray[np.float32]] = {}
    for name, text in list(texts.items())[:stories]:
        told[name] = _cached(name, text, cache)
        progress(name)
    wanted = round(seconds * SAMPLE_RATE_HZ)
    shortest = min(told, key=lambda name: len(told[name]))
    if len(told[shortest]) < wanted:
        longest = _tenths(len(told[shortest]))
        raise DataError(
            f"the story {shortest} lasts {longest:.1f} minutes, {seconds / 60:g} are wanted",
            f"ask for --minutes {longest:.1f} or give recordings with --speech DIR",
        )
    return {name: sound[:wanted] for name, sound in told.items()}


def joined(folder: Path, stories: int, seconds: float, seed: int) -> dict[str, NDArray[np.float32]]:
    """Stories made of the recordings in a folder and its subfolders: story01, story02, ...

    Recordings are shuffled by `seed`, freed of long silence, brought to one level and joined with short
    gaps until a story lasts `seconds`: (samples,) each at 16 kHz. No recording serves two stories, and
    those that hold no speech serve none.
    Raises DataError if there are none, too few, or one is not audio; UserError if G.722 can't be read.
    """
    paths = _recordings(folder)
    wanted = round(seconds * SAMPLE_RATE_HZ)
    told: dict[str, NDArray[np.float32]] = {}
    lengths: list[int] = []
    parts: list[NDArray[np.float32]] = []
    for index in np.random.default_rng(seed).permutation(len(paths)):
        speech = without_silence(_read(paths[index]))
        if not len(speech):
            continue
        parts += [_levelled(speech), _gap(SAMPLE_RATE_HZ)]
        lengths.append(len(parts[-2]) + len(parts[-1]))
        if sum(map(len, parts)) >= wanted:
            told[f"story{len(told) + 1:02d}"] = np.concatenate(parts)[:wanted]
            parts = []
        if len(told) == stories:
            return told
    raise _too_little(folder, lengths, stories, seconds)


def without_silence(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound with silence before, after and between words cut down to at most 0.3 s.

    sound: (samples,) at 16 kHz.  Returns fewer samples; none if there is nothing but silence.
    """
    size = round(FRAME_S * SAMPLE_RATE_HZ)
    padded = np.pad(sound, (0, -len(sound) % size))
    level = np.sqrt(np.mean(padded.reshape(-1, size) ** 2, axis=1))
    if level.max(initial=0) < NOTHING_BELOW:
        return sound[:0]
    loud = level > SILENT_BELOW * level.max()
    keep: NDArray[np.bool_] = binary_dilation(loud, iterations=PAUSE_FRAMES)
    return sound[np.repeat(keep, size)[: len(sound)]]


@functools.cache
def _texts() -> dict[str, str]:
    folder = importlib.resources.files("wav2bold.datasets") / "stories"
    found = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name
    )
    return {file.name.removesuffix(".txt"): file.read_text(encoding="utf-8") for file in found}


def _cached(name: str, text: str, cache: Path) -> NDArray[np.float32]:
    """One whole story, from the cache if it was spoken before."""
    try:
        version = importlib.metadata.version("hibari-tts")
    except importlib.metadata.PackageNotFoundError:
        raise _no_voice() from None
    key = f"{version} {SAMPLE_RATE_HZ} {GAP_S} {LEVEL} {text}"
    path = cache / f"{name}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.flac"
    if not path.is_file():
        sound = _spoken(text)
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            soundfile.write(partial, sound, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return read_audio(path)  # also when it is new: the first call and the next give the same 16 bits


def _spoken(text: str) -> NDArray[np.float32]:
    try:
        from hibari import SAMPLE_RATE, Hibari  # optional, and loads a model
    except ImportError:
        raise _no_voice() from None
    sentences = Hibari(threads=1).stream(text, seed=0)
    sound = np.concatenate([part for sentence in sentences for part in (sentence, _gap(SAMPLE_RATE))])
    return _levelled(np.asarray(soxr.resample(sound, SAMPLE_RATE, SAMPLE_RATE_HZ), np.float32))


def _no_voice() -> UserError:
    return UserError(
        "stories can't be spoken without the package hibari-tts",
        'pip install "wav2bold[demo]", or give recordings with --speech DIR',
    )


def _recordings(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "give a folder of recordings")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise DataError(f"{folder}: holds no recordings", f"looked for {', '.join(SUFFIXES)} files")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _read(path: Path) -> NDArray[np.float32]:
    return _read_g722(path) if path.suffix.lower() == ".g722" else read_audio(path)


def _read_g722(path: Path) -> NDArray[np.float32]:
    """G.722 has no header and libsndfile doesn't read it; telephone systems keep their prompts in it."""
    try:
        import av  # optional
    except ImportError:
        raise UserError(
            f"{path}: G.722 can't be read without the package av", 'pip install "wav2bold[demo]"'
        ) from None
    try:
        with av.open(str(path), format="g722") as container:
            frames = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
            rate_hz = container.streams.audio[0].rate
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{path}: not audio ({error})", "give a 16 kHz G.722 file") from None
    if not frames:
        raise DataError(f"{path}: holds no sound (0 samples)", "replace it with the whole recording")
    sound = np.concatenate(frames).astype(np.float32) / np.iinfo(np.int16).max
    return np.asarray(soxr.resample(sound, rate_hz, SAMPLE_RATE_HZ), np.float32)


def _levelled(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound at the common level, or as near to it as its peak allows without clipping."""
    level, peak = np.sqrt(np.mean(sound**2)), np.abs(sound).max()
    return np.asarray(sound * min(LEVEL / level, 0.99 / peak), np.float32)


def _gap(rate_hz: int) -> NDArray[np.float32]:
    return np.zeros(round(GAP_S * rate_hz), np.float32)


def _too_little(folder: Path, lengths: Sequence[int], stories: int, seconds: float) -> DataError:
    """What was found, what is needed, and what the recordings would suffice for in this order."""
    fewer = _filled(lengths, round(seconds * SAMPLE_RATE_HZ))
    # Simulation takes no fewer than 3 stories, of no less than half a minute
    tenths = range(round(_tenths(sum(lengths)) / stories * 10), 4, -1)
    shorter = next((n / 10 for n in tenths if _filled(lengths, n * 6 * SAMPLE_RATE_HZ) >= stories), None)
    fits = [f"--minutes {shorter}"] if shorter else []
    fits += [f"--stories {fewer}"] if fewer >= 3 else []
    return DataError(
        f"{folder}: {len(lengths)} recordings give {_tenths(sum(lengths)):.1f} minutes of speech, {stories} "
        f"stories of {seconds / 60:g} minutes need {stories * seconds / 60:g} and no recording serves two",
        "add recordings" + "".join(f" or give {fit}" for fit in fits),
    )


def _filled(lengths: Iterable[int], wanted: int) -> int:
    """How many stories of `wanted` samples the recordings make when joined one after another."""
    stories = length = 0
    for more in lengths:
        length += more
        if length >= wanted:
            stories, length = stories + 1, 0
    return stories


def _tenths(samples: int) -> float:
    """Minutes, rounded down to a tenth."""
    return samples * 10 // (60 * SAMPLE_RATE_HZ) / 10
