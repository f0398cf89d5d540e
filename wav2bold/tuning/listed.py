"""Between Ray Tune and a list of tasks that is known from the beginning."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from wav2bold.tuning.trial import METRIC


class Listed(Searcher):
    """Gives Ray Tune tasks in their order, `at_once` of them at a time.

    Tune's own grid copies all of itself for each of its points: 20 s for 1,000 tasks, over an hour for the
    17,595 of 345 subjects and 51 subsets.
    """

    def __init__(self, tasks: Sequence[Mapping[str, Any]], at_once: int) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._to_run = iter(tasks)
        self._at_once = at_once
        self._running: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune saves its searcher with the experiment; who goes on makes a list of what is left."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next task; None while enough run, FINISHED after the last."""
        if len(self._running) >= self._at_once:
            return None
        task = next(self._to_run, None)
        if task is None:
            return Searcher.FINISHED
        self._running.add(trial_id)
        return {"task": task}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Make room for another."""
        self._running.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing, as `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as `save`."""
