"""Predictions of the validation stories that a sweep keeps: those of its first trial and its best so far."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Study
from wav2bold.datasets.windows import Windows
from wav2bold.options import whole


@dataclass(frozen=True)
class Kept:
    """A sweep's folder of predictions, in the results folder: `<trial>/<subject>.npy`.

    Each is (rows, V) float32 of the epoch that its trial keeps, in the order of that subject's windows.
    """

    folder: Path

    def of(self, number: int) -> Path:
        """A trial's folder."""
        return self.folder / str(number)

    def task(self, number: int, above: float | None) -> dict[str, Any]:
        """What a task says to have its predictions kept. above: only if its score is higher; None: always."""
        return {"predictions": {"folder": str(self.of(number)), "above": above}}

    def prediction(self, number: int, subject: str) -> NDArray[np.float32] | None:
        """A trial's prediction of a subject; None if it isn't there."""
        path = self.of(number) / f"{subject}.npy"
        return np.load(path) if path.is_file() else None

    def forget(self, number: int) -> None:
        """Remove a trial's predictions, if there are any."""
        shutil.rmtree(self.of(number), ignore_errors=True)


def kept_of(study: Study, sweep: str) -> Kept:
    """What a sweep keeps. sweep: its run id in MLflow."""
    return Kept(study.results.resolve() / "predictions" / sweep)


class Keeper:
    """Writes the prediction of the epoch that a refinement keeps, as soon as there is one.

    options: as in `Kept.task`.  validation: the windows that are predicted.  keeps_best: whether the best
    epoch is kept; else it is the last.
    """

    def __init__(self, options: Mapping[str, Any], validation: Windows, *, keeps_best: bool) -> None:
        self._folder, self._above = Path(options["folder"]), options["above"]
        self._validation, self._keeps_best = validation, keeps_best

    def __call__(self, score: float, predicted: NDArray[np.float32]) -> None:
        """Take an epoch's score and its prediction (B, V) of all windows and subjects."""
        if self._above is not None and not score > self._above:
            return
        if self._keeps_best:
            self._above = score
        subjects = self._validation.subject
        for subject in dict.fromkeys(subjects.tolist()):
            columns = np.flatnonzero(subjects == subject)
            heard = np.isfinite(self._validation.y[:, columns]).any(1)
            own = np.asarray(predicted[np.ix_(heard, columns)], np.float32)
            with whole(self._folder / f"{subject}.npy") as path, path.open("wb") as file:
                np.save(file, own)
