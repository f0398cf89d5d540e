"""Speaker identification: which of 1,251 people speaks (VoxCeleb1)."""

from pathlib import Path

import numpy as np

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.errors import DataError
from wav2bold.trainables.superb.clips import Clip, crops
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.utterances import Fold, Utterances, check_folds
from wav2bold.trainables.superb.voxceleb import FOLDER, META, recording, speaker_of

PUBLISHED = Published("accuracy", updates=200_000, every=5_000)
LIST = "iden_split.txt"
SOURCE = f"{META}/{LIST}"
NEEDS = {f"{FOLDER}/{LIST}": f"download {SOURCE} there"}
PARTS = {"1": "train", "2": "dev", "3": "test"}
CROP_SAMPLES = 8 * SAMPLE_RATE_HZ


def read(data: Path, options: Options) -> Utterances:
    """The clips of the identification list. Raises DataError where it or they aren't there.

    The reference draws 8 s of each training file anew each time; here they are `options.crops` fixed
    stretches, so that the encoder hears them once. Dev and test are whole files.
    """
    root = data / FOLDER
    clips, speakers, parts = list[Clip](), list[str](), list[str]()
    for part, name in _list(root / LIST):
        path = recording(root, name)
        own = crops(path, CROP_SAMPLES, options.crops) if part == "train" else [Clip(path)]
        clips += own
        speakers += [speaker_of(name)] * len(own)
        parts += [part] * len(own)
    known = sorted({speaker for speaker, part in zip(speakers, parts, strict=True) if part == "train"})
    number = {speaker: place for place, speaker in enumerate(known)}
    utterances = Utterances(
        root=root,
        clips=tuple(clips),
        labels=np.array([[number.get(speaker, -1)] for speaker in speakers], np.int64).reshape(-1, 1),
        classes=(len(known),),
        unit=np.array(speakers, np.str_),
        folds=(Fold(*(np.flatnonzero(np.array(parts) == part) for part in PARTS.values())),),
    )
    return check_folds("sid", root, utterances)


def _list(path: Path) -> list[tuple[str, str]]:
    """Part and name of each file, as published: `1 id10003/na8-QEFmj44/00003.wav`."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        part, _, name = line.strip().partition(" ")
        if part not in PARTS or name.count("/") != 2:
            raise DataError(
                f"{path}: line {number} is no part and name: {line[:60]}", f"download {SOURCE} there"
            )
        found.append((PARTS[part], name))
    return found
