"""Ray Tune's controller, with a few things as ours: lost nodes, interruptions, and warm actors."""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.tune.error import TuneError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.utils.object_cache import _ObjectCache

NODES = 5
"""How many lost nodes a trial is forgiven: one whose memory takes whole machines down must come to an end."""
LOST = "its node has died"


def our_controller() -> AbstractContextManager[Any]:
    """Within, Ray Tune runs trials by `Controller`."""
    return mock.patch("ray.tune.tune.TuneController", Controller)


class Controller(TuneController):
    """Tune's own, with three things otherwise.

    A node that is lost under a trial is no fault of the trial's: it is tried again elsewhere, and costs none
    of `max_failures`. Tune forgives only nodes that an autoscaler announced it would take.
    An interruption ends all actors at once: the next search on this Ray needs their cores. Tune ends them
    after errors only.
    A warm actor that nobody needs just now is kept until the search is over, and none that is starting is
    ended because another became free. Tune keeps one; so a batch's other actors ended with it, and where
    trials were shorter than an actor's start, a second one never came to work.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._actor_cache = Idle()
        self._lost: Counter[str] = Counter()

    def step(self) -> None:
        """One round of Tune's loop."""
        try:
            super().step()  # type: ignore[no-untyped-call]  # Ray says no types of it
        except Exception:
            raise
        except BaseException:
            self._actor_manager.cleanup()  # Tune's own, after an error, waits for 5 s
            raise

    def _maybe_reuse_cached_actor(self, trial: Trial) -> bool:
        own = self._trial_to_actor.get(trial)
        if (
            own is not None
            and trial not in self._resetting_trials
            and self._actor_manager.is_actor_started(own)
        ):
            return False  # the next trial takes the one that is free
        return super()._maybe_reuse_cached_actor(trial)

    def _process_trial_failure(
        self, trial: Trial, exception: TuneError | RayTaskError | RayActorError
    ) -> None:
        if isinstance(exception, RayActorError):
            self._resetting_trials.discard(
                trial
            )  # else who was given a lost warm actor waits for it for ever
            if trial.status == Trial.PENDING:
                return  # Tune tells of such a trial twice: the first time it put it in line again
        if is_lost_node(exception) and self._lost[trial.trial_id] < NODES:
            self._lost[trial.trial_id] += 1
            trial.run_metadata.num_failures -= 1  # Tune adds 1
        super()._process_trial_failure(trial, exception)


class Idle(_ObjectCache):
    """Warm actors without a trial: as many as there are, until all are to go."""

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep it."""
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Iterator[Any]:  # type: ignore[override]
        """Those that must go."""
        return super().flush_cached_objects(force_all=True) if force_all else iter(())


def is_lost_node(error: Exception) -> bool:
    """Whether an actor is gone with its node, or doesn't answer: its node is dying, or was cut off.

    A process that died by itself is told as such within a second, out of memory as well.
    """
    cause = error.as_instanceof_cause() if isinstance(error, RayTaskError) else error
    if isinstance(cause, RayActorError) and cause.preempted:
        return False  # forgiven as it is
    return isinstance(cause, ActorUnavailableError) or (
        isinstance(cause, RayActorError) and LOST in str(cause)
    )
