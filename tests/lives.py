"""A small refinement in a process of its own, which can be killed at a chosen moment of its life."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from refining import material
from transformers.utils.logging import disable_progress_bar

from wav2bold.config import Cleaning, Configuration
from wav2bold.trainables import refine as refining_step
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.stage2 import Stage2

Moment = tuple[Literal["step", "told", "write"], int]
"""step: as a life's n-th step of the optimisers begins.  told: as its n-th report arrives.  write: as the
n-th checkpoint is half written. Counted from 1 in each life."""
FILTERED = Cleaning(high_pass_s=None, detrend=True)


def life(folder: Path, options: Configuration, moment: Moment | None = None) -> dict[str, np.ndarray] | None:
    """What a refinement ended with, if it lived; None if it was killed.

    folder: holds the encoder; the checkpoint and the store of activations are kept there.
    """
    # a server that has imported what takes long and computed nothing: its forks are ready soon
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wav2bold.trainables.refine", "transformers.models.wav2vec2", "peft"])
    process = context.Process(target=_live, args=(folder, options, moment))
    process.start()
    process.join()
    if moment is not None:
        assert process.exitcode == -signal.SIGKILL
        return None
    assert process.exitcode == 0
    with np.load(folder / "ended.npz") as ended:
        return dict(ended)


def _live(folder: Path, options: Configuration, moment: Moment | None) -> None:
    torch.set_num_threads(1)
    disable_progress_bar()  # its lock would outlive whoever is killed
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
    generator, reports = refining_step.refine(some, options, 0, folder / "checkpoint"), []
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
        folder / "ended.npz",
        best=[refined.epoch, refined.score],
        computed=[computed["stage1"], computed["epochs"]],
        seconds=[report.seconds for report in reports],
        **{name: np.array([getattr(report, name) for report in reports]) for name in columns},
        **{f"head.{name}": value for name, value in vars(refined.head).items()},
        **{f"model.{name}": value.detach().numpy() for name, value in refined.model.named_parameters()},
    )
