"""Ray Tune's controller, with two things as ours: what a lost node costs, and what an interruption leaves."""

from collections import Counter
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.tune.error import TuneError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

NODES = 5
"""How many lost nodes a trial is forgiven: one whose memory takes whole machines down must come to an end."""
LOST = "its node has died"


def our_controller() -> AbstractContextManager[Any]:
    """Within, Ray Tune runs trials by `Controller`."""
    return mock.patch("ray.tune.tune.TuneController", Controller)


class Controller(TuneController):
    """Tune's own, with two things otherwise.

    A node that is lost under a trial is no fault of the trial's: it is tried again elsewhere, and costs none
    of `max_failures`. Tune forgives only nodes that an autoscaler announced it would take.
    An interruption ends all actors at once: the next search on this Ray needs their cores. Tune ends them
    after errors only.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
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
