"""What an earlier sweep found, as trials that the sampler of a new one already knows."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from wav2bold.config import Configuration, Study
from wav2bold.errors import TrackingError
from wav2bold.tuning.answers import Answers
from wav2bold.tuning.goals import goals_of
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.resuming import IDENTITY, how_it_ended
from wav2bold.tuning.space import Proposals
from wav2bold.tuning.tracking import Tracker

SOURCE = "wav2bold.warm_start"
"""The tag of a sweep that holds the run id of the one that it learnt from."""
COMPARABLE = ("shards", "split", "subjects", "encoder", "search.objective")
"""What must be the same for two sweeps' scores to be on one scale."""


@dataclass(frozen=True)
class Known:
    """A trial of an earlier sweep, as the point of the space that it is.

    goals, subjects: what Optuna is told of it, as `tell` takes them.
    """

    run_id: str
    point: Answers
    goals: list[float]
    subjects: int | None = None


def source_of(study: Study, experiment: str, identity: Mapping[str, str]) -> str:
    """Run id of an experiment's newest sweep. Raises TrackingError if its scores are on another scale."""
    tracker = Tracker(study.model_copy(update={"name": experiment}), make=False)
    sweep = tracker.newest_sweep()
    before = json.loads(tracker.tags_of(sweep).get(IDENTITY, "{}"))
    other = [name for name in COMPARABLE if before.get(name) != identity.get(name)]
    if other:
        raise TrackingError(
            f"the newest sweep of {experiment} was scored with other {', '.join(other)}",
            "leave --warm-start out, or name an experiment of the same data",
        )
    return sweep


def known_trials(
    trials: Iterable[Trial], proposals: Proposals, trained: Callable[[Configuration], int | None]
) -> list[Known]:
    """Those of an earlier sweep's trials that finished and lie in the space."""
    known = []
    for trial in trials:
        point, ended = proposals.known(trial.configuration), how_it_ended(trial)
        goals = goals_of(proposals.study, ended, trained)
        if trial.status == "FINISHED" and point is not None and not any(map(math.isnan, goals)):
            known.append(Known(trial.run_id, point, goals, ended.subjects))
    return known
