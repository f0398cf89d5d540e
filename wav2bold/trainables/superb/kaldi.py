"""Who speaks when, from Kaldi's folders: wav.scp, segments with utt2spk, and rttm."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wav2bold.datasets.files import check_readable
from wav2bold.errors import DataError

SPEAKERS = 2


@dataclass(frozen=True)
class Turn:
    """One speaker's, from and to which second; of SPEAKERS, by the order of their names."""

    speaker: int
    start_s: float
    stop_s: float


@dataclass(frozen=True)
class Recording:
    """One of `wav.scp`. turns: of its speakers."""

    name: str
    path: Path
    turns: tuple[Turn, ...]


def read_recordings(folder: Path, data: Path, cure: str, *, scored: bool) -> tuple[Recording, ...]:
    """A folder's recordings. data: where paths that aren't whole begin.

    scored: whether turns are those of `rttm`, by which the reference scores; else of `segments`, on which it
    trains. Raises DataError where a file isn't there or has a line that it can't have.
    """
    turns: dict[str, list[tuple[str, float, float]]] = {}
    for name, speaker, start, stop in (_scored if scored else _trained)(folder, cure):
        turns.setdefault(name, []).append((speaker, start, stop))
    found = []
    for name, *words in _lines(folder / "wav.scp", cure):
        if len(words) != 1:
            raise DataError(f"{folder / 'wav.scp'}: {name} is no plain file", cure)
        own = turns.get(name, [])
        speakers = sorted({speaker for speaker, *_ in own})
        if not own or len(speakers) > SPEAKERS:
            raise DataError(f"{folder}: {name} has {len(speakers)} speakers, not 1 or {SPEAKERS}", cure)
        told = tuple(Turn(speakers.index(speaker), start, stop) for speaker, start, stop in own)
        found.append(Recording(name, data / words[0], told))
    return tuple(found)


def _scored(folder: Path, cure: str) -> Iterator[tuple[str, str, float, float]]:
    """`SPEAKER name 1 0.50 2.25 <NA> <NA> speaker <NA>`: start and length."""
    path = folder / "rttm"
    for words in _lines(path, cure):
        if words[0] == "SPEAKER":
            if len(words) < 8:
                raise DataError(f"{path}: no turn: {' '.join(words)[:60]}", cure)
            start, length = _seconds(path, words[3:5], cure)
            yield words[1], words[7], start, start + length


def _trained(folder: Path, cure: str) -> Iterator[tuple[str, str, float, float]]:
    """`utterance name 0.50 2.75` of segments, `utterance speaker` of utt2spk: start and end."""
    path = folder / "segments"
    speakers = {words[0]: words[-1] for words in _lines(folder / "utt2spk", cure)}
    for words in _lines(path, cure):
        if len(words) != 4 or words[0] not in speakers:
            raise DataError(f"{path}: no turn of an utterance in utt2spk: {' '.join(words)[:60]}", cure)
        start, stop = _seconds(path, words[2:], cure)
        yield words[1], speakers[words[0]], start, stop


def _lines(path: Path, cure: str) -> list[list[str]]:
    check_readable(path, cure)
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _seconds(path: Path, words: list[str], cure: str) -> tuple[float, float]:
    try:
        first, second = map(float, words)
    except ValueError:
        raise DataError(f"{path}: no seconds: {' '.join(words)}", cure) from None
    return first, second
