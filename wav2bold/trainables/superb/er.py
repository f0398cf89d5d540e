"""Emotion recognition: neutral, happy, angry or sad (IEMOCAP), each session tested by the other four."""

import re
from pathlib import Path

import numpy as np

from wav2bold.errors import DataError
from wav2bold.trainables.superb.clips import Clip
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.utterances import Fold, Utterances, check_folds

PUBLISHED = Published("accuracy", updates=30_000, every=1_000)
FOLDER = "IEMOCAP_full_release"
CURE = "ask for it at https://sail.usc.edu/iemocap/ and unpack it there"
EMOTIONS = {"neu": 0, "hap": 1, "exc": 1, "ang": 2, "sad": 3}
"""What is told apart: excited counts as happy, and all else is left out."""
SESSIONS = (1, 2, 3, 4, 5)
NEEDS = {f"{FOLDER}/Session{session}/dialog/EmoEvaluation": CURE for session in SESSIONS}
TRAIN_SHARE = 0.8
LINE = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(?P<name>\S+)\t(?P<emotion>\w+)\t", re.MULTILINE)


def read(data: Path, options: Options) -> Utterances:
    """The utterances of the five sessions. Raises DataError where they aren't there.

    The reference draws its dev set from the four other sessions, too: a fifth of their utterances.
    """
    root = data / FOLDER
    clips, labels, sessions = list[Clip](), list[int](), list[int]()
    for session in SESSIONS:
        folder = root / f"Session{session}"
        told = sorted((folder / "dialog" / "EmoEvaluation").glob("Ses*.txt"))
        if not told:
            raise DataError(f"{folder / 'dialog' / 'EmoEvaluation'}: no Ses*.txt", CURE)
        for path in told:
            for line in LINE.finditer(path.read_text(encoding="utf-8", errors="replace")):
                if line["emotion"] in EMOTIONS:
                    name = line["name"]
                    clips.append(Clip(folder / "sentences" / "wav" / path.stem / f"{name}.wav"))
                    labels.append(EMOTIONS[line["emotion"]])
                    sessions.append(session)
    utterances = Utterances(
        root=root,
        clips=tuple(clips),
        labels=np.array(labels, np.int64).reshape(-1, 1),
        classes=(len(set(EMOTIONS.values())),),
        unit=np.array([clip.path.stem for clip in clips], np.str_),
        folds=tuple(_fold(np.array(sessions), session, options.seed) for session in SESSIONS),
    )
    return check_folds("er", root, utterances)


def _fold(sessions: np.ndarray, session: int, seed: int) -> Fold:
    others = np.random.default_rng((seed, session)).permutation(np.flatnonzero(sessions != session))
    train = int(TRAIN_SHARE * len(others))
    return Fold(others[:train], others[train:], np.flatnonzero(sessions == session))
