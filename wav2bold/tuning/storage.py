"""Where Optuna keeps what it has proposed and learnt: a database that outlives the driver."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from wav2bold.config import Study
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.interrupts import interrupts_held
from wav2bold.tuning.samplers import directions, sampler_for
from wav2bold.tuning.space import Proposals
from wav2bold.tuning.warm import Known

WARM = "wav2bold.run_id"
"""What marks a trial in Optuna that another sweep ran."""
WAITS_S = 60
"""How long an SQLite file that another process writes to is waited for."""


def storage_url(study: Study) -> str:
    """`search.storage`, or else `optuna.db` in the study's results folder."""
    return study.search.storage or f"sqlite:///{study.results.resolve() / 'optuna.db'}"


def open_memory(study: Study, sweep: str, proposals: Proposals, warm: Iterable[Known] = ()) -> optuna.Study:
    """What Optuna remembers of a sweep; of a new one where to begin, and what is known from another.

    sweep: its run id in MLflow.  warm: trials of that other, marked by their run id.
    Raises TrackingError if the storage can't be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns of what no user of ours can act on
    url = storage_url(study)
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"connect_args": {"timeout": WAITS_S}}
    else:
        options = {"pool_pre_ping": True}
    with reached(study), interrupts_held():
        memory = optuna.create_study(
            storage=RDBStorage(url, engine_kwargs=options),
            study_name=f"{study.name}/{sweep}",
            sampler=sampler_for(study),
            directions=directions(study),
            load_if_exists=True,
        )
        if not own_trials(memory):
            there = {trial.user_attrs[WARM] for trial in memory.get_trials(deepcopy=False)}
            memory.add_trials([_added(one, memory) for one in warm if one.run_id not in there])
            memory.enqueue_trial(proposals.first_point())
    return memory


def own_trials(memory: optuna.Study) -> list[FrozenTrial]:
    """Trials that the sweep itself asked for, or will ask for first; in order."""
    return [trial for trial in memory.get_trials(deepcopy=False) if WARM not in trial.user_attrs]


def _added(known: Known, memory: optuna.Study) -> FrozenTrial:
    whole = known.subjects is None
    return create_trial(
        state=TrialState.COMPLETE if whole else TrialState.PRUNED,
        values=known.goals[: len(memory.directions)],
        params=known.point.params,
        distributions=known.point.distributions,
        user_attrs={WARM: known.run_id},
        intermediate_values=None if known.subjects is None else {known.subjects: known.goals[0]},
    )


def tell(memory: optuna.Study, trial: int, goals: list[float], subjects: int | None = None) -> None:
    """Tell how a trial ended, by its number in Optuna: a goal that is no number is a failure's.

    subjects: as in `Ended`. What was scored on fewer subjects is on another scale: to Optuna it is a pruned
    trial, worse than any whole one and better than those that were pruned earlier.
    """
    if any(math.isnan(goal) for goal in goals):
        memory.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
    elif subjects is None:
        memory.tell(trial, goals, state=TrialState.COMPLETE, skip_if_finished=True)
    else:
        there = memory.get_trials(deepcopy=False)[trial]
        if not there.state.is_finished():
            optuna.trial.Trial(memory, there._trial_id).report(goals[0], subjects)  # noqa: SLF001
        memory.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)


@contextmanager
def reached(study: Study) -> Iterator[None]:
    """What a database says that can't be used, as a TrackingError without its password."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, ImportError, OSError) as error:
        origin = error.__cause__ or error  # Optuna's own says less
        reason = next(iter(masked(str(origin)).strip().splitlines()), type(origin).__name__)
        raise TrackingError(
            f"search.storage: {masked(storage_url(study))} can't be used ({reason[:200].rstrip('.')})",
            "mend it, then `wav2bold sweep --resume` goes on where the sweep was",
        ) from None
