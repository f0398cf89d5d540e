"""Keyword spotting: which of ten words, silence or another word (Speech Commands v0.01)."""

import hashlib
import re
from pathlib import Path
from typing import Literal

import numpy as np

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.trainables.superb.clips import Clip, file_samples
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.utterances import Fold, Utterances, check_folds

PUBLISHED = Published("accuracy", updates=200_000, every=5_000)
FOLDER, TEST_FOLDER = "speech_commands_v0.01", "speech_commands_test_set_v0.01"
SOURCE = "http://download.tensorflow.org/data/"
NEEDS = {folder: f"unpack {SOURCE}{folder}.tar.gz there" for folder in (FOLDER, TEST_FOLDER)}
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = (*WORDS, "_unknown_", "_silence_")
NOISE = "_background_noise_"
SPEAKERS = 2**27 - 1
"""Speakers' hashes are counted up to this one (`input_data.py` of TensorFlow's speech_commands)."""
DEV_PERCENT, TEST_PERCENT = 10, 10
GAIN = 10 ** (-3 / 20)
"""The reference turns all sound down by 3 dB."""
DEV_SHARE_OF_NOISE = 0.1


def part_of(name: str) -> Literal["train", "dev", "test"]:
    """Which set a recording is in, by its file's name alone: all of a speaker's are in one.

    The archive's own rule, by which its validation_list.txt and testing_list.txt were made.
    """
    speaker = re.sub(r"_nohash_.*$", "", name)
    number = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    percent = number % (SPEAKERS + 1) * (100 / SPEAKERS)
    if percent < DEV_PERCENT:
        return "dev"
    return "test" if percent < DEV_PERCENT + TEST_PERCENT else "train"


def read(data: Path, _options: Options) -> Utterances:
    """The clips below `data`. Raises DataError where they aren't there.

    Train and dev are those of the main archive by its rule, of which what it calls test is left out; test is
    the archive made for it. Silence is each second of the noises' first nine tenths, or last for dev.
    """
    clips, labels, parts = list[Clip](), list[str](), list[str]()
    for path in sorted((data / FOLDER).glob("*/*.wav")):
        word = path.parent.name
        if word != NOISE and (part := part_of(path.name)) != "test":
            clips.append(Clip(path, gain=GAIN))
            labels.append(word if word in WORDS else "_unknown_")
            parts.append(part)
    for path in sorted((data / FOLDER / NOISE).glob("*.wav")):
        seconds = file_samples(path) // SAMPLE_RATE_HZ
        for second in range(seconds):
            clips.append(Clip(path, second * SAMPLE_RATE_HZ, (second + 1) * SAMPLE_RATE_HZ, GAIN))
            labels.append("_silence_")
            parts.append("dev" if second >= seconds * (1 - DEV_SHARE_OF_NOISE) else "train")
    for path in sorted((data / TEST_FOLDER).glob("*/*.wav")):
        if path.parent.name in CLASSES:
            clips.append(Clip(path, gain=GAIN))
            labels.append(path.parent.name)
            parts.append("test")
    train, dev, test = (np.flatnonzero(np.array(parts) == part) for part in ("train", "dev", "test"))
    utterances = Utterances(
        root=data,
        clips=tuple(clips),
        labels=np.array([[CLASSES.index(label)] for label in labels], np.int64).reshape(-1, 1),
        classes=(len(CLASSES),),
        unit=np.array([clip.path.relative_to(data).as_posix() for clip in clips], np.str_),
        folds=(Fold(train, dev, test),),
        balanced=True,
        drops_last=True,
    )
    return check_folds("ks", data, utterances)
