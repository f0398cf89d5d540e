"""Intent classification: action, object and location of a command (Fluent Speech Commands)."""

import csv
from pathlib import Path

import numpy as np

from wav2bold.errors import DataError
from wav2bold.trainables.superb.clips import Clip
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.utterances import Fold, Utterances, check_folds

PUBLISHED = Published("accuracy", updates=200_000, every=5_000)
FOLDER = "fluent_speech_commands_dataset"
LISTS = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}
SLOTS = ("action", "object", "location")
SOURCE = "https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research/"
CURE = f"ask for the data set at {SOURCE} and unpack it there"
NEEDS = {f"{FOLDER}/data/{name}": CURE for name in LISTS.values()}


def read(data: Path, _options: Options) -> Utterances:
    """The clips that the data set's own lists name, in their order. Raises DataError where they aren't there.

    A value that training never has can't be told: no answer meets it.
    """
    root = data / FOLDER
    lists = {part: _rows(root / "data" / name) for part, name in LISTS.items()}
    values = [sorted({row[slot] for row in lists["train"]}) for slot in SLOTS]
    numbers = [{value: number for number, value in enumerate(own)} for own in values]
    rows = [row for own in lists.values() for row in own]
    part = np.repeat(list(lists), [len(own) for own in lists.values()])
    labels = [[own.get(row[slot], -1) for slot, own in zip(SLOTS, numbers, strict=True)] for row in rows]
    utterances = Utterances(
        root=root,
        clips=tuple(Clip(root / row["path"]) for row in rows),
        labels=np.array(labels, np.int64).reshape(-1, len(SLOTS)),
        classes=tuple(map(len, values)),
        unit=np.array([row["path"] for row in rows], np.str_),
        folds=(Fold(*(np.flatnonzero(part == one) for one in LISTS)),),
    )
    return check_folds("ic", root, utterances)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for column in ("path", *SLOTS):
            if column not in (reader.fieldnames or ()):
                raise DataError(f"{path}: has no column {column}", CURE)
        return list(reader)
