"""What refinements of one study share in a process, and one refinement from its task to its folder."""

import shutil
from collections.abc import Generator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from wav2bold.config import Configuration, Study
from wav2bold.datasets.budget import first_minutes, held_back
from wav2bold.datasets.shards import Shards, open_shards
from wav2bold.datasets.splits import split_stories
from wav2bold.datasets.windows import windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.checkpoint import save_refined
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.people import targets_of
from wav2bold.trainables.refine import Material, Refined, Shown, refine, unseen
from wav2bold.trainables.scores import Report
from wav2bold.trainables.team import ALONE, Team
from wav2bold.tuning.kept import Keeper

Task = Mapping[str, Any]
"""What to refine, JSON-like: `number`; `configuration`, a `Configuration`; `subjects`, who are refined
jointly, or one after the other where there is `reduce`, a `Reduction` of their scores; `out`, the folder for
the refined encoder, absent where none is wanted; `origin`, written into it; `predictions`, as `Kept.task` has
it, absent where they aren't kept; `minutes`, how much of the training stories is used, the last of it to
choose the epoch in place of validation stories, absent for all; `name`, what it is called where it is no
trial of a sweep."""
KEPT_BYTES = 256 << 20
"""Of BOLD that a process keeps beside that in use, for a trial that goes from subject to subject: a third of
what its libraries take."""


class Workshop:
    """Encoder, shards and store of a study, loaded when they are first asked for, and kept."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._material: dict[tuple[tuple[str, ...], float | None], Material] = {}

    def reports(
        self, task: Task, team: Team = ALONE, checkpoint: Path | None = None
    ) -> Generator[Report, None, None]:
        """Refine as a task says: a report per epoch; what it asks for is then written.

        checkpoint: default beside the task's `out`; it goes when that stands.
        """
        out = Path(task["out"]) if task.get("out") is not None else None
        if checkpoint is None and out is not None:
            checkpoint = checkpoint_beside(out)
        material = self.material_for(tuple(task["subjects"]), task.get("minutes"))
        configuration = Configuration.model_validate(task["configuration"])
        shown: Shown = unseen
        if "predictions" in task:
            keeps_best = configuration.keeps_best
            shown = Keeper(task["predictions"], material.validation, keeps_best=keeps_best)
        epochs = refine(material, configuration, self.study.seed, checkpoint, team, shown)
        reports: list[Report] = []
        while True:
            try:
                report = next(epochs)
            except StopIteration as ended:
                refined: Refined = ended.value
                break
            reports.append(report)
            yield report
        if team.is_first:
            if out is not None:
                targets = targets_of(self.shards, material.train.subject)
                save_refined(out, refined, self.encoder, targets, reports, task["origin"])
            if checkpoint is not None:
                shutil.rmtree(checkpoint, ignore_errors=True)

    def material_for(self, subjects: tuple[str, ...], minutes: float | None = None) -> Material:
        """What these subjects' refinements share; it is kept, and that of others as far as there is room.

        minutes: as in `Task`.
        """
        found = self._material.pop((subjects, minutes), None)
        if found is None:
            while sum(map(_bytes, self._material.values())) > KEPT_BYTES:
                self._material.popitem()  # the last: trials ask in one order, and next for the first
            stories = split_stories(self.study.split, self.shards.card)
            longest, tr_s = longest_history(self.study), self.shards.card.tr_s
            train = windows(self.shards, subjects, stories.train, longest)
            if minutes is None:
                validation = windows(self.shards, subjects, stories.validation, longest)
            else:
                train, validation = held_back(first_minutes(train, tr_s, minutes), tr_s, longest)
            found = Material(self.encoder, self.shards, self.store, train, validation)
        self._material[subjects, minutes] = found
        return found

    @cached_property
    def encoder(self) -> Encoder:
        """The pretrained one."""
        return load_encoder(self.study.encoder, device_for(self.study))

    @cached_property
    def store(self) -> ActivationStore:
        """Of frozen activations."""
        return activation_store(self.study)

    @cached_property
    def shards(self) -> Shards:
        """The recordings."""
        return open_shards(self.study.shards)


def _bytes(material: Material) -> int:
    return int(material.train.y.nbytes + material.validation.y.nbytes)


def checkpoint_beside(out: Path) -> Path:
    """Where a refinement into `out` keeps its checkpoint until `out` stands; safe to delete."""
    return out.with_name(f".{out.name}.checkpoint")


def longest_history(study: Study) -> int:
    """The longest history that the study may compare: volumes with less are left out of all of it."""
    return max(study.search.space.history.high, study.configuration.history)


def device_for(study: Study) -> str:
    """Where a trial's encoder is: on the GPU if trials hold one."""
    return "cuda" if study.search.gpus_per_trial > 0 and torch.cuda.is_available() else "cpu"


def activation_store(study: Study) -> ActivationStore:
    """Where the study's frozen activations are kept."""
    options = study.activations
    return ActivationStore(study.results / "activations", options.max_gb, options.dtype)
