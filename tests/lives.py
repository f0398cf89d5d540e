"""A small refinement in processes of its own, one of which can be killed at a chosen moment of its life."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from refining import material
from transformers.utils.logging import disable_progress_bar

from wav2bold.config import Cleaning, Configuration
from wav2bold.trainables import refine as refining_step
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.stage2 import Stage2
from wav2bold.trainables.team import ALONE, Team

Moment = tuple[Literal["step", "told", "write"], int]
"""step: as a life's n-th step of the optimisers begins.  told: as its n-th report arrives.  write: as the
n-th checkpoint is half written. Counted from 1 in each life."""
FILTERED = Cleaning(high_pass_s=None, detrend=True)


def life(
    folder: Path,
    options: Configuration,
    moment: Moment | None = None,
    size: int = 1,
    scarce: int | None = None,
) -> dict[str, np.ndarray] | None:
    """What a refinement ended with, if it lived; None if it was killed.

    folder: holds the encoder; the checkpoint and the store of activations are kept there.
    size: processes that refine together. What each of them ended with is the same, or this fails.
    scarce: windows that the last one's memory can train on at once.
    """
    # a server that has imported what takes long and computed nothing: its forks are ready soon
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wav2bold.trainables.refine", "transformers.models.wav2vec2", "peft"])
    given = (folder, options, moment, scarce, size)
    processes = [context.Process(target=_live, args=(*given, rank)) for rank in range(size)]
    for one in processes:
        one.start()
    for one in processes:
        one.join()
    if moment is not None:
        assert processes[0].exitcode == -signal.SIGKILL
        return None
    assert [one.exitcode for one in processes] == [0] * size
    ended = [dict(np.load(folder / f"ended{rank}.npz")) for rank in range(size)]
    for other in ended[1:]:
        for name in ended[0].keys() - {"computed"}:
            np.testing.assert_array_equal(other[name], ended[0][name], err_msg=name)
    return ended[0]


def limit_memory(windows: int) -> None:
    """Let this process run out of memory where it trains on more windows at once."""
    plain = Hearing.pooled

    def pooled(self: Hearing, model: object, below: torch.Tensor, *rows: object) -> torch.Tensor:
        if len(below) > windows and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(self, model, below, *rows)

    Hearing.pooled = pooled


def _live(
    folder: Path,
    options: Configuration,
    moment: Moment | None,
    scarce: int | None,
    size: int,
    rank: int,
) -> None:
    torch.set_num_threads(1)
    disable_progress_bar()  # its lock would outlive whoever is killed
    team = ALONE
    if size > 1:
        meeting = f"file://{folder}/meeting-of-{size}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
        team = Team.of_processes(["a", "b", "c"][rank::size])
    if scarce is not None and rank == size - 1:
        limit_memory(scarce)
    kind, at = moment or ("", 0)
    left = at

    def tick() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def doomed(method: Callable[..., object], ready: Callable[..., object] = lambda *_: None) -> Callable:
        def call(self: object, *given: object) -> object:
            if tick():
                ready(self)
                os.kill(os.getpid(), signal.SIGKILL)
            return method(self, *given)

        return call

    computed = {"epochs": 0, "stage1": 0}

    def counted(what: str, function: Callable[..., object]) -> Callable:
        def call(*given: object) -> object:
            computed[what] += 1
            return function(*given)

        return call

    Stage2.epoch = counted("epochs", Stage2.epoch)
    refining_step.solve_stage1 = counted("stage1", refining_step.solve_stage1)
    if kind == "step":
        Stage2.step = doomed(Stage2.step)
    if kind == "write":
        type(folder).replace = doomed(type(folder).replace, lambda path: os.truncate(path, 1000))
    some = material(load_encoder(str(folder / "encoder")), folder / "store", FILTERED)
    generator, reports = refining_step.refine(some, options, 0, folder / "checkpoint", team), []
    while True:
        try:
            reports.append(next(generator))
        except StopIteration as stop:
            refined = stop.value
            break
        if kind == "told" and tick():
            os.kill(os.getpid(), signal.SIGKILL)
    columns = ("epoch", "loss", "score", "white_score", "last", "note", "scores")
    np.savez(
        folder / f"ended{rank}.npz",
        best=[refined.epoch, refined.score],
        computed=[computed["stage1"], computed["epochs"]],
        seconds=[report.seconds for report in reports],
        **{name: np.array([getattr(report, name) for report in reports]) for name in columns},
        **{f"head.{name}": value for name, value in vars(refined.head).items()},
        **{f"model.{name}": value.detach().numpy() for name, value in refined.model.named_parameters()},
    )
