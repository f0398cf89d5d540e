"""Pieces of a study's work, a Ray task each."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray

from wav2bold.config import Study
from wav2bold.errors import UserError
from wav2bold.progress import Progress

T = TypeVar("T")


def worked_apart(
    study: Study,
    work: Callable[..., T],
    pieces: Sequence[tuple[object, ...]],
    names: Sequence[str],
    progress: Progress,
) -> list[T]:
    """What `work(study, *piece)` gives for each piece, in their order, with a trial's processors and GPUs.

    work: lies in a module, and imports what computes when it runs, so that who only waits need not hold it.
    names: what progress says of each piece when it ends.
    Runs where Ray is connected. Raises the first UserError that a piece raised.
    """
    task: Any = ray.remote(_worked).options(
        num_cpus=study.search.cpus_per_trial, num_gpus=study.search.gpus_per_trial
    )
    waiting = {task.remote(study, work, piece): number for number, piece in enumerate(pieces)}
    results: dict[int, T] = {}
    while waiting:
        ready, _ = ray.wait(list(waiting))
        for one in ready:
            result: T | UserError = ray.get(one)
            if isinstance(result, UserError):
                raise result
            number = waiting.pop(one)
            results[number] = result
            progress(names[number], len(results), len(pieces))
    return [results[number] for number in range(len(pieces))]


def _worked(study: Study, work: Callable[..., T], piece: tuple[object, ...]) -> T | UserError:
    """A Ray task: the piece's result, or the user's mistake that Ray would write its own lines about."""
    import torch

    torch.set_num_threads(max(int(study.search.cpus_per_trial), 1))
    torch.set_flush_denormal(True)
    try:
        return work(study, *piece)
    except UserError as error:
        return error
