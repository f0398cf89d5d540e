"""How long a trial will take, from a short one: the study's own configuration on a few of its stories."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ray
import torch
from ray.exceptions import RayTaskError

from wav2bold.config import Study
from wav2bold.datasets.shards import DatasetCard, open_shards
from wav2bold.datasets.splits import split_stories
from wav2bold.errors import UserError
from wav2bold.trainables.needs import heard_in
from wav2bold.tuning.workshop import Workshop, longest_history

EPOCHS = 2
"""Of a short trial: the first also pays for what is made once."""
TRAIN, VALIDATION = 2, 1
"""How many stories of each it hears, the shortest; ridge leaves one out of two to choose its penalties."""


@dataclass(frozen=True)
class Pace:
    """Seconds that a whole trial of the study's own configuration takes, as a short one tells.

    first: loading, frozen activations and stage 1.  epoch: each of stage 2.  epochs: how many.
    timed: seconds of the short trial itself.  share: windows that it heard, of the study's.  where: in words.
    """

    first: float
    epoch: float
    epochs: int
    timed: float
    share: float
    where: str

    @property
    def trial(self) -> float:
        return self.first + self.epochs * self.epoch

    def hours(self, trials: int, at_once: int) -> float:
        """Of so many trials, so many at once, if all take as long and none is stopped early."""
        return math.ceil(trials / at_once) * self.trial / 3600


def calibrated(study: Study, subjects: Sequence[str], in_turn: int = 1, *, on_cluster: bool) -> Pace:
    """The pace of a trial, timed here or by a worker of the cluster that we are connected to; see `timed`."""
    if not on_cluster:
        return timed(study, subjects, in_turn, "this machine")
    search = study.search
    worker = ray.remote(num_cpus=search.cpus_per_trial, num_gpus=search.gpus_per_trial, max_retries=0)(timed)
    try:
        pace: Pace = ray.get(worker.remote(study, tuple(subjects), in_turn, "a worker of the cluster"))
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, UserError) else error from None
    return pace


def timed(study: Study, subjects: Sequence[str], in_turn: int, where: str) -> Pace:
    """Run a short trial in this process and stretch what it took to all of the study's windows.

    Windows count as if each took as long as any other: right for stage 2 and for frozen activations; the
    ridge of stage 1 grows faster than they do.
    in_turn: how many times a trial does this, for other subjects.
    """
    torch.set_num_threads(max(int(study.search.cpus_per_trial), 1))
    shards = open_shards(study.shards)
    stories = split_stories(study.split, shards.card)
    train = shortest(stories.train, shards.card, TRAIN)
    validation = shortest(stories.validation, shards.card, VALIDATION)
    history = longest_history(study)
    few, all_ = (
        sum(heard_in(shards, subjects, some, history).rows for some in roles)
        for roles in ((train, validation), (stories.train, stories.validation))
    )
    configuration = study.configuration.model_copy(update={"epochs": min(EPOCHS, study.configuration.epochs)})
    task = {"number": 0, "configuration": configuration.model_dump(mode="json"), "subjects": list(subjects)}
    with tempfile.TemporaryDirectory() as folder:
        short = study.model_copy(
            update={
                "split": study.split.model_copy(update={"train": train, "validation": validation}),
                "results": Path(folder),
            }
        )
        reports = list(islice(Workshop(short).reports(task), configuration.epochs + 1))
    first, last = reports[0].seconds, reports[-1].seconds
    # the last epoch alone: what an epoch takes once all is warm
    epoch = last - reports[-2].seconds if len(reports) > 1 else 0.0
    epochs = study.configuration.epochs if len(reports) > 1 else 0
    stretch = in_turn * all_ / few
    return Pace(first * stretch, epoch * stretch, epochs, last, few / all_, where)


def shortest(stories: Sequence[str], card: DatasetCard, count: int) -> tuple[str, ...]:
    """So many stories, those that last shortest, in the order given."""
    kept = sorted(stories, key=lambda story: card.stories[story].seconds)[:count]
    return tuple(story for story in stories if story in kept)
