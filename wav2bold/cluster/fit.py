"""Whether a cluster can place what a study asks for, and how often at a time: one rule for all commands."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from wav2bold.cluster.shape import Machines, Shape
from wav2bold.config import Search
from wav2bold.errors import StudyError


@dataclass(frozen=True)
class Demand:
    """What a trial needs. workers: processes.  cpus, gpus: of each.  memory: bytes of each, or None."""

    workers: int
    cpus: float
    gpus: float
    memory: float | None = None

    @classmethod
    def of(cls, search: Search, memory: float | None = None) -> "Demand":
        return cls(search.workers, search.cpus_per_trial, search.gpus_per_trial, memory)


def trials_at_once(shape: Shape, demand: Demand) -> int:
    """How many trials a cluster holds at a time, if it has nothing else to do."""
    return _places(shape, demand) // demand.workers


def what_limits(shape: Shape, demand: Demand, search: Search) -> str:
    """What keeps more trials from running at once, in words: the study's own number, or what is scarcest."""
    fits = trials_at_once(shape, demand)
    if fits >= min(search.parallel, search.trials):
        return "search.trials" if search.trials <= search.parallel else "search.parallel"
    free = {
        "memory": replace(demand, memory=None),
        "GPUs": replace(demand, gpus=0),
        "cores": replace(demand, cpus=0),
    }
    return max(free, key=lambda name: trials_at_once(shape, free[name]))


def refuse_impossible(shape: Shape, search: Search) -> None:
    """Raise StudyError if not even one trial can ever be placed: Ray would wait forever.

    The cure is the smallest change that makes it fit.
    """
    _refuse_part_gpus(search.gpus_per_trial)
    wanted = Demand.of(search)
    for key, needed, most in (
        ("cpus_per_trial", wanted.cpus, max(each.cpus for each in shape.machines)),
        ("gpus_per_trial", wanted.gpus, max(each.gpus for each in shape.machines)),
    ):
        if needed > most:
            whose = "the cluster's" if shape.size == 1 else "that of any machine of the cluster,"
            raise StudyError(
                f"search.{key}: {needed:g} is more than {whose} {most:g}",
                f"the nearest valid value is {most:g}",
            )
    places = _places(shape, wanted)
    if not places:
        raise StudyError(
            f"search: no machine of the cluster has {wanted.cpus:g} cores and {wanted.gpus:g} GPUs",
            _cure(shape, wanted),
        )
    if places < wanted.workers:
        each = f"{wanted.cpus:g} cores" + (f" and {wanted.gpus:g} GPUs" if wanted.gpus else "")
        raise StudyError(
            f"search.workers: {wanted.workers} of {each} are more than the cluster holds",
            f"the nearest valid value is {places}",
        )


def refuse_too_large(
    shape: Shape, search: Search, needed: float, cure: Callable[[float], str | None]
) -> None:
    """Raise StudyError if a trial's worker needs more memory than any machine that could hold it has.

    needed: bytes.  cure: the smallest change with which so many bytes suffice, None if there is none.
    """
    fitting = [each for each in shape.machines if _on(each, Demand.of(search))]
    if not fitting or any(each.memory is None for each in fitting):
        return
    most = max(each.memory or 0 for each in fitting)
    if needed > most:
        raise StudyError(
            f"a trial's worker needs {needed / 1e9:.1f} GB of memory, and the cluster's largest machine has "
            f"{most / 1e9:.1f} GB",
            cure(most) or f"give it a machine of {math.ceil(needed / 1e9)} GB",
        )


def _places(shape: Shape, demand: Demand) -> int:
    """Workers that all machines hold together."""
    return sum(each.count * _on(each, demand) for each in shape.machines)


def _on(machine: Machines, demand: Demand) -> int:
    """Workers that one machine holds; fractions of a GPU never span two."""
    most = 10**6  # where nothing is asked for, something else limits
    by = [most]
    if demand.cpus:
        by.append(int(machine.cpus / demand.cpus + 1e-9))
    if 0 < demand.gpus < 1:
        by.append(int(machine.gpus) * int(1 / demand.gpus + 1e-9))
    elif demand.gpus:
        by.append(int(machine.gpus / demand.gpus + 1e-9))
    if demand.memory is not None and machine.memory is not None:
        by.append(int(machine.memory / demand.memory))
    return min(by)


def _refuse_part_gpus(gpus: float) -> None:
    if gpus > 1 and gpus != int(gpus):
        raise StudyError(
            f"search.gpus_per_trial: {gpus:g} can't be held: a share of a GPU is below 1, more are whole",
            f"the nearest valid value is {round(gpus)}",
        )


def _cure(shape: Shape, wanted: Demand) -> str:
    """Fewer cores beside as many GPUs, where that is enough; it is, since some machine has the GPUs."""
    beside = max(each.cpus for each in shape.machines if _on(each, Demand(1, 0, wanted.gpus)))
    return f"the nearest valid search.cpus_per_trial is {beside:g}"
