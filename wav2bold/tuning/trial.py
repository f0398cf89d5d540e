"""A warm trial: an actor that keeps encoder and data between configurations."""

import math
import shutil
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ray import tune

from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import Shards, open_shards
from wav2bold.datasets.splits import split_stories
from wav2bold.datasets.windows import windows
from wav2bold.errors import UserError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.checkpoint import save_refined
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.refine import Material, Refined, refine
from wav2bold.trainables.scores import Report

METRIC = "best_score"


class WarmTrial(tune.Trainable):
    """Refines one configuration after another without being started anew.

    Its config is {"task": ...} with `number`; `configuration`, a `Configuration` as JSON;
    `subjects`, who are refined jointly; `out`, the folder for the refined encoder or None;
    `origin`, written into it. Each step is an epoch. Whoever is killed before that folder stands goes on from
    its last epoch when the same task is given again.
    """

    _epochs: Generator[Report, None, Refined] | None

    def setup(self, config: dict[str, Any], study: dict[str, Any] | None = None, cpus: float = 1) -> None:
        """Take the first configuration. study: a `Study` as JSON, paths absolute.  cpus: threads to use."""
        torch.set_num_threads(max(int(cpus), 1))
        self._study = Study.model_validate(study)
        self._material: tuple[tuple[str, ...], Material] | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration; what was loaded stays."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch; the last one also writes the refined encoder, where that was asked for.

        A user's mistake ends the trial with its sentence as `failed`; any other error is raised.
        The first one also loads what is missing: what goes wrong there is then this trial's own failure,
        while a failing `setup` would be Ray's, and the trial would never have begun.
        """
        try:
            if self._epochs is None:
                material = self._material_for(tuple(self._task["subjects"]))
                out = self._task.get("out")
                checkpoint = None if out is None else checkpoint_beside(Path(out))
                self._epochs = refine(material, self._configuration, self._study.seed, checkpoint)
            report = next(self._epochs)
            self._reports.append(report)
            if report.last:
                self._finish(self._epochs)
        except UserError as error:
            # raised, it would count as the trial's death: Ray would try again what can't come out otherwise
            return {METRIC: math.nan, "failed": str(error), "done": True}
        best = max(report.score for report in self._reports)
        return {
            "epoch": report.epoch,
            "loss": report.loss,
            "score": report.score,
            "white_score": report.white_score,
            METRIC: best,
            "seconds": report.seconds,
            "note": report.note,
            "failed": "",
            "last": report.last,
            "done": report.last,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial with `out` keeps a checkpoint of its own, and the others are short."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, as `save_checkpoint`."""

    def _begin(self, config: dict[str, Any]) -> None:
        self._task = config["task"]
        self._configuration = Configuration.model_validate(self._task["configuration"])
        self._reports: list[Report] = []
        self._epochs = None

    def _finish(self, epochs: Generator[Report, None, Refined]) -> None:
        out = self._task.get("out")
        try:
            next(epochs)
        except StopIteration as ended:
            refined: Refined = ended.value
        else:
            raise AssertionError("refine yielded more epochs than its configuration has")
        if out is not None:
            save_refined(Path(out), refined, self._encoder, self._reports, self._task["origin"])
            shutil.rmtree(checkpoint_beside(Path(out)), ignore_errors=True)

    def _material_for(self, subjects: tuple[str, ...]) -> Material:
        if self._material is None or self._material[0] != subjects:
            stories = split_stories(self._study.split, self._shards.card)
            longest = longest_history(self._study)
            material = Material(
                encoder=self._encoder,
                shards=self._shards,
                store=self._store,
                train=windows(self._shards, subjects, stories.train, longest),
                validation=windows(self._shards, subjects, stories.validation, longest),
            )
            self._material = (subjects, material)
        return self._material[1]

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self._study.encoder, device_for(self._study))

    @cached_property
    def _store(self) -> ActivationStore:
        return activation_store(self._study)

    @cached_property
    def _shards(self) -> Shards:
        return open_shards(self._study.shards)


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
