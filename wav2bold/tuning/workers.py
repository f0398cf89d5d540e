"""One trial by several workers: Ray Train starts them, together they refine, one of them tells."""

import asyncio
import os
import tempfile
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.train
import torch
from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from wav2bold.config import Study
from wav2bold.datasets.splits import split_stories
from wav2bold.errors import UserError
from wav2bold.trainables.scores import Report
from wav2bold.trainables.team import Team
from wav2bold.tuning.workshop import Task, Workshop

ASKED_EVERY_S = 1.0
"""How often it is looked whether the workers are lost, while none of them tells anything."""
IN_LINE_S = 30 * 24 * 3600
"""How long workers wait for others to leave the cluster: a sweep has seen before that they fit in it."""


class Desk:
    """Where the first worker leaves its reports, and learns whether to go on: an actor of Ray."""

    def __init__(self) -> None:
        self._reports: list[Report] = []
        self._allowed = -1
        self._error: UserError | None = None
        self._stopped = False
        self._news = asyncio.Condition()

    async def tell(self, report: Report) -> bool:
        """Leave a report; whether to go on after it, once that is known."""
        async with self._news:
            self._reports.append(report)
            self._news.notify_all()
            await self._news.wait_for(lambda: self._stopped or self._allowed >= report.epoch)
        return not self._stopped

    async def refuse(self, error: UserError) -> None:
        """Leave what is wrong with the task."""
        self._error = error
        await self.stop()

    async def stop(self) -> None:
        """Nobody goes on, nor begins."""
        async with self._news:
            self._stopped = True
            self._news.notify_all()

    async def is_open(self) -> bool:
        """Whether there is anything to do."""
        return not self._stopped

    async def allow(self, epoch: int) -> None:
        """Give leave to go on after an epoch."""
        async with self._news:
            self._allowed = epoch
            self._news.notify_all()

    async def next(self) -> Report | UserError | None:
        """The report that comes after the last one that was allowed to go on; None if it takes long.

        Workers that take the place of lost ones tell again what those had told; nobody listens.
        """

        def found() -> Report | UserError | None:
            wanted = self._allowed + 1
            return self._error or next((one for one in self._reports if one.epoch == wanted), None)

        async with self._news:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait_for(lambda: found() is not None), ASKED_EVERY_S)
            return found()


class EachOnce(DataConfig):
    """Deals every row to whoever asks first, however many there are: Ray's own makes all shares equal."""

    def configure(self, datasets: Any, world_size: int, *given: Any, **more: Any) -> list[dict[str, Any]]:
        """One iterator for each worker."""
        ((name, data),) = datasets.items()
        return [{name: each} for each in data.streaming_split(world_size, equal=False)]


def reports_by_workers(workshop: Workshop, task: Task) -> Generator[Report, None, None]:
    """`Workshop.reports` by `search.workers` processes, wherever Ray Train puts them.

    What is frozen is dealt to them story by story. Lost workers are started anew, `search.max_failures` times
    at most, and go on from the last epoch. Whoever stops listening stops them.
    Raises UserError as `reports` does, RuntimeError with a lost worker's last words.
    """
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(IN_LINE_S))
    study, options = workshop.study, workshop.study.search
    desk: Any = ray.remote(Desk).options(num_cpus=0).remote()
    split = split_stories(study.split, workshop.shards.card)
    stories = [{"story": story} for story in (*split.train, *split.validation)]
    aside = study.results / "ray"
    aside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=aside.resolve(), prefix="workers-") as folder:
        trainer = TorchTrainer(
            work,
            train_loop_config={
                "study": study.model_dump(mode="json"),
                "task": dict(task),
                "desk": desk,
                "checkpoint": None if task.get("out") else str(Path(folder) / "checkpoint"),
            },
            scaling_config=ScalingConfig(
                num_workers=options.workers,
                use_gpu=options.gpus_per_trial > 0,
                resources_per_worker={"CPU": options.cpus_per_trial, "GPU": options.gpus_per_trial},
            ),
            datasets={"stories": ray.data.from_items(stories, override_num_blocks=len(stories))},
            dataset_config=EachOnce(),
            run_config=RunConfig(
                name="train",
                storage_path=folder,
                failure_config=FailureConfig(max_failures=options.max_failures),
            ),
        )
        with ThreadPoolExecutor(1) as pool:
            fitting = pool.submit(trainer.fit)
            last = False
            try:
                while not last:
                    told: Report | UserError | None = ray.get(desk.next.remote())
                    if isinstance(told, UserError):
                        raise told
                    if told is not None:
                        yield told
                        ray.get(desk.allow.remote(told.epoch))
                        last = told.last
                    elif fitting.done():
                        fitting.result()
                        raise AssertionError("the workers ended before their last epoch")
                fitting.result()
            finally:
                ray.get(desk.stop.remote())


def work(config: Mapping[str, Any]) -> None:
    """What each worker does. config: as `reports_by_workers` gives it."""
    desk = config["desk"]
    if not ray.get(desk.is_open.remote()):
        return
    study = Study.model_validate(config["study"])
    torch.set_num_threads(max(int(study.search.cpus_per_trial), 1))
    rows = ray.train.get_dataset_shard("stories").iter_batches(batch_size=1, prefetch_batches=0)
    team = Team.of_processes(str(row["story"][0]) for row in rows)
    checkpoint = config["checkpoint"]
    epochs = Workshop(study).reports(config["task"], team, None if checkpoint is None else Path(checkpoint))
    try:
        for report in epochs:
            if not team.first(partial(_tell, desk, report)):
                break
    except UserError as error:
        ray.get(desk.refuse.remote(error))
        raise


def _tell(desk: Any, report: Report) -> bool:
    return bool(ray.get(desk.tell.remote(report)))
