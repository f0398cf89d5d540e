"""A sweep on a cluster as a discrete-event simulation: places for trials, and what all of them share.

A trial begins with a word of the driver, reads its data from a disk that serves one after the other, works,
and tells the driver of each epoch; it goes on when it has been heard. Driver and MLflow share a thread, which
takes one trial after the other, too. A place begins cold. That is `run_trials`, with nothing else about.
"""

import heapq
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """work: seconds of its own.  reports: how often it tells the driver, an epoch each."""

    work: float
    reports: int


@dataclass(frozen=True)
class Costs:
    """Seconds. starts: until a cold place works.  driver, mlflow: of each word between trial and driver, of
    which there are two more than reports.  disk: reading of a trial's data.  objects: sending it a task."""

    starts: float
    driver: float
    mlflow: float
    disk: float
    objects: float

    @property
    def word(self) -> float:
        return self.driver + self.mlflow


@dataclass(frozen=True)
class Bottleneck:
    """What trials share. gpus: how many it keeps busy at most.  formula: how that follows, with numbers."""

    name: str
    gpus: float
    formula: str


class Server:
    """Serves one after the other, in the order of their coming."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def served(self, now: float, seconds: float) -> float:
        """When who comes now is done with."""
        self._free_at = max(now, self._free_at) + seconds
        return self._free_at


def makespan(trials: Sequence[Trial], places: int, costs: Costs) -> float:
    """Seconds until the last of these trials has ended; they begin in their order, as places become free."""
    thread, disk, head = Server(), Server(), Server()
    waiting = iter(trials)
    # (time, order of arrival, trial, words it has still to say); a trial of None is a place that is free
    events: list[tuple[float, int, Trial | None, int]] = [
        (costs.starts, place, None, 0) for place in range(min(places, len(trials)))
    ]
    arrived, now = places, 0.0
    while events:
        now, _, trial, words = heapq.heappop(events)
        arrived += 1
        if trial is None:
            trial = next(waiting, None)
            if trial is None:
                continue
            begun = head.served(thread.served(now, costs.word), costs.objects)
            ready = disk.served(begun, costs.disk) + trial.work / trial.reports
            heapq.heappush(events, (ready, arrived, trial, trial.reports))
        elif words > 1:
            heard = thread.served(now, costs.word)
            heapq.heappush(events, (heard + trial.work / trial.reports, arrived, trial, words - 1))
        else:
            heapq.heappush(events, (thread.served(now, 2 * costs.word), arrived, None, 0))
    return now


def efficiency(trials: Sequence[Trial], places: int, costs: Costs) -> float:
    """Work of all trials over what all places could have done meanwhile."""
    return sum(trial.work for trial in trials) / (places * makespan(trials, places, costs))


def bottlenecks(trials: Sequence[Trial], costs: Costs) -> list[Bottleneck]:
    """All that trials share, first what saturates first: a trial's whole time over its time there."""
    work = statistics.fmean(trial.work for trial in trials)
    words = statistics.fmean(trial.reports for trial in trials) + 2
    whole = work + words * costs.word + costs.disk + costs.objects
    thread = whole / (words * costs.word)
    shared = (
        f"{whole:.1f} s / ({words:.1f} words x {costs.driver:.4f} s + {words:.1f} x {costs.mlflow:.4f} s)"
    )
    found = [
        Bottleneck(
            "driver, with MLflow on its thread"
            if costs.driver > costs.mlflow
            else "MLflow, on the driver's thread",
            thread,
            shared,
        ),
    ]
    for name, seconds in (("storage", costs.disk), ("object store", costs.objects)):
        if seconds:
            formula = f"{whole:.1f} s / {seconds:.3g} s of each trial"
            found.append(Bottleneck(name, whole / seconds, formula))
    return sorted(found, key=lambda each: each.gpus)
