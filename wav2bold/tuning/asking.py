"""Between Ray Tune and an Optuna study: trials are asked for in batches, and told of batch by batch."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from wav2bold.config import Configuration
from wav2bold.errors import TrackingError
from wav2bold.tuning.goals import Ended, goals_of
from wav2bold.tuning.interrupts import interrupts_held
from wav2bold.tuning.kept import Kept
from wav2bold.tuning.space import Proposals
from wav2bold.tuning.storage import own_trials, tell
from wav2bold.tuning.trial import METRIC


class Asking(Searcher):
    """Gives Ray Tune the trials that an Optuna study proposes, and that study their scores.

    A trial is proposed when all of earlier batches have ended, and knows those, not its peers: what is
    proposed is the same whichever trial is faster.
    Ray's own OptunaSearch can't take up a trial that a lost driver had asked for, numbers none, takes no
    points of a conditional space that are known already, and tells Optuna of a trial before its callbacks
    have written it down elsewhere. Here Optuna is told of a batch once the next one begins: MLflow, or the
    outbox which the callbacks write to, is never behind it.
    trained: how many parameters a configuration trains, which may be the second goal of a study that has two.
    ended: by number, how trials ended that an earlier driver ran.
    guard: what the storage's errors become.  settle: is called before Optuna is told, and returns once no
    lost node could take from MLflow what Optuna will know.
    kept: where trials leave the predictions of the first and of the best so far; None for nowhere.
    """

    def __init__(
        self,
        memory: optuna.Study,
        proposals: Proposals,
        trained: Callable[[Configuration], int | None],
        trials: int,
        ended: Mapping[int, Ended],
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
        settle: Callable[[], None] = lambda: None,
        kept: Kept | None = None,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._memory, self._proposals, self._trained = memory, proposals, trained
        self._batch, self._guard, self._settle = proposals.study.search.parallel, guard, settle
        # Ray's trial ids of those that run; what Optuna calls ours; what it isn't told of yet
        self._running: dict[str, tuple[int, Configuration]] = {}
        self._known = {
            number: trial
            for number, trial in enumerate(own_trials(memory))
            if trial.state is not TrialState.WAITING
        }
        lost = [number for number in ended if number not in self._known]
        if lost:
            raise TrackingError(
                f"MLflow remembers trial {lost[0]} of the sweep, and search.storage does not",
                "give the storage that it was begun with, or begin anew without --resume",
            )
        self._numbers = {number: trial.number for number, trial in self._known.items()}
        self._ended = dict(ended)
        self._kept, self._best = kept, (-math.inf, 0)
        self._to_run = [number for number in range(trials) if number not in ended]

    @property
    def left(self) -> int:
        """How many trials there are still to run."""
        return len(self._to_run)

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune saves its searcher with the experiment; a database and an encoder can't be saved."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The task of the next trial; None while it must wait for others, FINISHED after the last."""
        if not self._to_run:
            return Searcher.FINISHED
        number = self._to_run[0]
        if any(other // self._batch < number // self._batch for other, _ in self._running.values()):
            return None
        with self._guard(), interrupts_held():
            self._tell_before(number // self._batch * self._batch)
            trial = self._ask(number)
            task = self._proposals.task(number, trial)
        configuration = Configuration.model_validate(task["task"]["configuration"])
        task["task"]["trained_parameters"] = self._trained(configuration)
        if self._kept is not None:
            # over subjects the score is known after the last of them only
            always = number == 0 or "reduce" in task["task"]
            task["task"] |= self._kept.task(number, None if always else self._best[0])
        self._running[trial_id] = self._to_run.pop(0), configuration
        return task

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note how a trial ended."""
        number, configuration = self._running.pop(trial_id)
        if error or not result:
            self._ended[number] = Ended(math.nan, configuration)
            return
        self._ended[number] = Ended(
            float(result[METRIC]),
            configuration,
            float(result.get("drift", math.nan)),
            None if result.get("subject") is None or result["last"] else result["epoch"] + 1,
        )

    def close(self) -> None:
        """Tell Optuna of all that has ended, once nothing more will be asked for."""
        with self._guard(), interrupts_held():
            self._tell_before(max(self._ended, default=0) + 1)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what must be kept is in the study's storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as `save`."""

    def _ask(self, number: int) -> optuna.Trial:
        known = self._known.pop(number, None)
        if known is not None:  # a lost driver's: what it drew is kept, and the rest is drawn
            return optuna.trial.Trial(self._memory, known._trial_id)  # noqa: SLF001  # only storages say it
        trial = self._memory.ask()
        self._numbers[number] = trial.number
        return trial

    def _tell_before(self, number: int) -> None:
        told = sorted(one for one in self._ended if one < number)
        if told:
            self._settle()
        for ended in told:
            trial = self._ended.pop(ended)
            goals = goals_of(self._proposals.study, trial, self._trained)[: len(self._memory.directions)]
            tell(self._memory, self._numbers.pop(ended), goals, trial.subjects)
            self._keep(ended, trial)

    def _keep(self, number: int, trial: Ended) -> None:
        """Of predictions, those of the first trial and of the best; the others go."""
        dropped = number
        if trial.subjects is None and trial.score > self._best[0]:
            dropped, self._best = self._best[1], (trial.score, number)
        if self._kept is not None and dropped not in (0, self._best[1]):
            self._kept.forget(dropped)
