"""Between Ray Tune and an Optuna study: trials are asked for in batches, and told of batch by batch."""

import math
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from wav2bold.config import Configuration
from wav2bold.tuning.interrupts import interrupts_held
from wav2bold.tuning.space import Proposals
from wav2bold.tuning.trial import METRIC


class Asking(Searcher):
    """Gives Ray Tune the trials that an Optuna study proposes, and that study their scores.

    A trial is proposed when all of earlier batches have ended, and knows those, not its peers: what is
    proposed is the same whichever trial is faster.
    Ray's own OptunaSearch can't take up a trial that an earlier process had asked for, numbers none,
    takes no points of a conditional space that are known already, and tells Optuna of a trial before
    its callbacks have written it down elsewhere. Here that is told only once the next batch begins.
    memory: the study; its trials before `first` come from elsewhere, the others are ours, in order.
    trained: how many parameters a configuration trains, the second goal of a study that has two.
    """

    def __init__(
        self,
        memory: optuna.Study,
        proposals: Proposals,
        trained: Callable[[Configuration], int | None],
        batch: int,
        trials: int,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._memory, self._proposals, self._trained = memory, proposals, trained
        self._batch = batch
        self._to_run = list(range(trials))
        self._numbers: dict[str, int] = {}
        self._asked: dict[int, optuna.Trial] = {}
        self._second_goals: dict[int, int | None] = {}
        self._scores: dict[int, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune saves its searcher with the experiment; a database and an encoder can't be saved."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The task of the next trial; None while it must wait for others, FINISHED after the last."""
        if not self._to_run:
            return Searcher.FINISHED
        number = self._to_run[0]
        if any(other // self._batch < number // self._batch for other in self._numbers.values()):
            return None
        with interrupts_held():
            self._tell_before(number // self._batch * self._batch)
            trial = self._asked[number] = self._memory.ask()
            task = self._proposals.task(number, trial)
        trained = self._trained(Configuration.model_validate(task["task"]["configuration"]))
        task["task"]["trained_parameters"] = self._second_goals[number] = trained
        self._numbers[trial_id] = self._to_run.pop(0)
        return task

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note how a trial ended."""
        number = self._numbers.pop(trial_id)
        self._scores[number] = math.nan if error or not result else float(result[METRIC])

    def close(self) -> None:
        """Tell Optuna of all that has ended, once nothing more will be asked for."""
        with interrupts_held():
            self._tell_before(max(self._asked, default=0) + 1)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what must be kept is in the study's storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as `save`."""

    def _tell_before(self, number: int) -> None:
        for ended in sorted(one for one in self._scores if one < number):
            trained = self._second_goals[ended]
            both = [self._scores.pop(ended), math.nan if trained is None else float(trained)]
            goals = both[: len(self._memory.directions)]
            failed = any(math.isnan(goal) for goal in goals)
            self._memory.tell(
                self._asked[ended],
                None if failed else goals,
                state=TrialState.FAIL if failed else TrialState.COMPLETE,
            )
