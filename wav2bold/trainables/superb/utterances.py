"""What the tasks of whole utterances (ks, ic, sid, er) are made of."""

# N clips, S slots to fill

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.errors import DataError
from wav2bold.trainables.superb.clips import Clip


@dataclass(frozen=True)
class Fold:
    """Numbers of the clips that train, that choose, and that test."""

    train: NDArray[np.int64]
    dev: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Utterances:
    """A task's clips and what is to be told of each.

    root: folder that clips are named from.  labels: (N, S), a number below `classes` of its slot, or -1 for
    what training never names, which no answer meets.  unit: (N,) what is drawn together for intervals.
    balanced: whether classes are drawn equally often, in training and for the dev score.
    drops_last: whether what is left at an epoch's end, less than a batch, is passed over.
    """

    root: Path
    clips: tuple[Clip, ...]
    labels: NDArray[np.int64]
    classes: tuple[int, ...]
    unit: NDArray[np.str_]
    folds: tuple[Fold, ...]
    balanced: bool = False
    drops_last: bool = False


def check_folds(task: str, root: Path, utterances: Utterances) -> Utterances:
    """The same. Raises DataError if a part of a fold has no clips."""
    for fold in utterances.folds:
        for part in ("train", "dev", "test"):
            if not len(getattr(fold, part)):
                raise DataError(
                    f"{root}: no clips for {task}'s {part} set", "unpack the whole data set there"
                )
    return utterances
