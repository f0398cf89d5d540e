"""The study file that a user begins from."""

import re
from pathlib import Path

from wav2bold.config import Study
from wav2bold.datasets.files import is_there
from wav2bold.datasets.shards import DatasetCard
from wav2bold.datasets.splits import default_split
from wav2bold.errors import DataError
from wav2bold.places import Place, beside

HEADING = """\
A study: which data and encoder, which stories train, choose and test, and what a sweep varies.
Every option is explained by `wav2bold options`. Paths are relative to this file.
Next: wav2bold sweep {path}
"""


def recommended(recordings: Path) -> Study | None:
    """The study that the recordings bring along in their own `study.yaml`; None if they don't."""
    path = recordings / "study.yaml"
    return Study.load(path) if is_there(path) else None


def study_path(shards: Place) -> Path:
    """Where the study file of some shards is looked for and begun: beside them; for a URL, here."""
    return beside(shards, "study.yaml")


def study_for(recordings: Path, shards: Place) -> Study | None:
    """The study file beside the shards, else the one that the recordings bring; None if there is neither."""
    path = study_path(shards)
    return Study.load(path) if path.is_file() else recommended(recordings)


def begin_study(recordings: Path, shards: Place, card: DatasetCard) -> Path:
    """Write a study file beside the shards, unless there is one; its path.

    It begins from what the recordings recommend. Otherwise the last story in the alphabet tests and
    the one before it chooses: which stories those should be is for the user to say.
    Raises DataError if there are too few stories for a split.
    """
    path = study_path(shards)
    if path.is_file():
        return path
    study = recommended(recordings)
    if study is None:
        split = default_split(card.stories)
        if split is None:
            raise DataError(
                f"{recordings}: has {len(card.stories)} stories, a split needs 3",
                f"add stories; the shards are in {shards}",
            )
        study = Study(
            name=re.sub(r"[^A-Za-z0-9_.-]+", "-", path.parent.name).strip("_.-") or "study",
            shards=shards,
            encoder="facebook/wav2vec2-base",
            split=split,
        )
    study = study.model_copy(update={"shards": shards.resolve(), "results": path.parent})
    study.save(path, HEADING.format(path=path.name))
    return path
