"""Many configurations, one search: Ray Tune with Optuna in warm actors, remembered in MLflow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from wav2bold.cluster.connect import connected
from wav2bold.cluster.shape import connected_shape
from wav2bold.cluster.storage import check_storage
from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import CARD_NAME, DatasetCard, open_shards
from wav2bold.datasets.splits import Stories, split_stories
from wav2bold.errors import RunsFailed, StudyError
from wav2bold.options import nearest
from wav2bold.progress import Progress, silent
from wav2bold.trainables.counting import trained_count
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.people import refuse_other_places
from wav2bold.trainables.unfreezing import lowest_boundary
from wav2bold.tuning.asking import Asking
from wav2bold.tuning.circumstances import circumstances
from wav2bold.tuning.driving import only_driver
from wav2bold.tuning.engine import Memory, Outcome, run_trials
from wav2bold.tuning.kept import kept_of
from wav2bold.tuning.outbox import Outbox, opened, outbox
from wav2bold.tuning.plan import largest_together, refuse_on_this_cluster
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.resuming import (
    how_it_ended,
    identity,
    marked,
    outcome_of,
    refuse_other,
    told_apart,
)
from wav2bold.tuning.samplers import refuse_branches
from wav2bold.tuning.space import Proposals
from wav2bold.tuning.stopping import remember, scheduler_for
from wav2bold.tuning.storage import open_memory, reached
from wav2bold.tuning.warm import SOURCE, Known, known_trials, source_of
from wav2bold.tuning.winning import remember_winner


@dataclass(frozen=True)
class Swept:
    """A finished sweep.

    run_id: its parent run in MLflow.  uri: of the MLflow store.  warm: trials of another sweep that its
    sampler knew from the beginning.  certainty: how sure it is that the best one betters the first, in a
    sentence; "" where that isn't known.
    """

    run_id: str
    uri: str
    outcomes: tuple[Outcome, ...]
    warm: int = 0
    certainty: str = ""

    @property
    def best(self) -> Outcome | None:
        """The trial with the highest brain score on the validation stories; None if none has one."""
        whole = [one for one in self.outcomes if not one.failed and one.is_whole]
        scored = [one for one in whole if math.isfinite(one.best_score)]
        return max(scored, key=lambda one: one.best_score, default=None)


def sweep(
    study: Study,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    *,
    resume: bool = False,
    warm_start: str | None = None,
) -> Swept:
    """Search the study's space for the highest mean brain score on the validation stories.

    The first trial is the study's own configuration, by default the paper's. Trials are proposed in
    batches of `search.parallel`, so that the same seed gives the same sweep whatever the machine's
    load. Every trial becomes an MLflow run under the sweep's own.
    address, cpus: where it runs, as `cluster.connect` takes them.
    resume: go on with the newest sweep of the study, however its driver ended: what has ended is kept, what
    was under way begins anew in its own MLflow run, and what follows is what would have followed.
    warm_start: name of an experiment (a study) whose newest sweep the sampler learns from: its finished
    trials, as far as they lie in the space.
    Raises StudyError for what can't be studied, TrackingError if there is nothing that can be gone on with or
    another process is at it, RunsFailed if trials failed (the others are kept).
    """
    if resume and warm_start is not None:
        raise StudyError(
            "--resume and --warm-start don't go together", "a sweep knows what it was begun with"
        )
    shards = open_shards(study.shards)
    card = shards.card
    stories = split_stories(study.split, card)
    subjects = swept_subjects(study, card)
    if study.search.objective is not None:
        refuse_unheard(subjects, stories, card)
    elif study.configuration.head == "shared":
        refuse_other_places(shards, subjects)
    encoder = load_encoder(study.encoder)
    lowest_boundary(encoder, study.configuration)  # the first trial's mistakes come before any work
    proposals = Proposals(study, encoder.layers, subjects)
    proposals.refuse_impossible()
    refuse_branches(study, proposals)
    with connected(address, cpus):
        refuse_on_this_cluster(study, shards, encoder, largest_together(study, subjects, card))
        check_storage([study.results], [study.shards / CARD_NAME])
        with only_driver(study):  # its lock is a file: what is refused before leaves nothing
            tracker = opened(study, progress, make=not resume)
            who = identity(study, encoder, card.digest, subjects)
            trained = partial(trained_count, encoder)
            now = circumstances(Path.cwd(), connected_shape())
            with tracker.answering():
                if resume:
                    parent = tracker.newest_sweep()
                    refuse_other(tracker, parent, who)
                    tracker.begin_again(parent, study, card, now)
                    source = tracker.tags_of(parent).get(SOURCE)
                else:
                    source = None if warm_start is None else source_of(study, warm_start, who)
                    tags = now | marked(who) | ({} if source is None else {SOURCE: source})
                    parent = tracker.begin("sweep", f"sweep {study.name}", study, card, tags)
            with outbox(tracker, study, parent, progress) as box:
                try:
                    with tracker.answering():
                        known = () if source is None else tracker.trials(source)
                        before = tracker.trials(parent)
                    warm = known_trials(known, proposals, trained)
                    outcomes = _search(study, box, parent, before, proposals, trained, warm, progress)
                    swept = Swept(parent, tracker.uri, tuple(outcomes), len(warm))
                    if swept.best is not None:
                        number = swept.best.number
                        sure = remember_winner(study, shards, subjects, box, parent, number, progress)
                        swept = replace(swept, certainty=sure)
                except BaseException:
                    box.end(parent, "KILLED")
                    raise
                failed = [one for one in outcomes if one.failed]
                box.end(parent, "FAILED" if len(failed) == len(outcomes) else "FINISHED")
            named = tuple(replace(one, run_id=box.run_id(one.run_id)) for one in outcomes)
            swept = replace(swept, outcomes=named)
    if failed:
        raise RunsFailed(tuple((f"trial {one.number}", one.reason) for one in failed))
    return swept


def chosen_subjects(
    wanted: tuple[str, ...] | None, card: DatasetCard, option: str = "subjects"
) -> tuple[str, ...]:
    """The subjects asked for, each once, or all if None. Raises StudyError for one that the shards lack."""
    if wanted is None:
        return tuple(card.subjects)
    if not wanted:
        raise StudyError(f"{option}: names nobody", f"there are {', '.join(card.subjects)}")
    for subject in wanted:
        if subject not in card.subjects:
            near = nearest(subject, card.subjects)
            raise StudyError(
                f"{option}: there is no {subject} in the shards",
                f"did you mean {near}?" if near else f"there are {', '.join(card.subjects)}",
            )
    return tuple(dict.fromkeys(wanted))


def swept_subjects(study: Study, card: DatasetCard) -> tuple[str, ...]:
    """Whom every trial of a sweep refines, jointly or one by one. Raises StudyError as `chosen_subjects`."""
    everyone, objective = chosen_subjects(study.subjects, card), study.search.objective
    if objective is None or objective.subjects is None:
        return everyone
    return chosen_subjects(objective.subjects, card, "search.objective.subjects")


def refuse_unheard(subjects: Sequence[str], stories: Stories, card: DatasetCard) -> None:
    """Raise StudyError for who heard no story to train on, or none to be scored on."""
    for subject in subjects:
        for role in (stories.train, stories.validation):
            if not set(role) & set(card.subjects[subject].stories):
                raise StudyError(
                    f"search.objective.subjects: {subject} heard none of {', '.join(role)}",
                    "leave that subject out, or change split",
                )


def _search(
    study: Study,
    box: Outbox,
    parent: str,
    before: Sequence[Trial],
    proposals: Proposals,
    trained: Callable[[Configuration], int | None],
    warm: list[Known],
    progress: Progress,
) -> list[Outcome]:
    """Run what is still to run of a sweep; outcomes of all its trials, by number. before: those begun."""
    ended, left = told_apart(before)
    search = Asking(
        open_memory(study, parent, proposals, warm),
        proposals,
        trained,
        study.search.trials,
        {trial.number: how_it_ended(trial) for trial in ended},
        partial(reached, study),
        box.settle,
        kept_of(study, parent),
    )
    scheduler = scheduler_for(study, len(proposals.subjects))
    for trial in ended:
        remember(scheduler, trial.number, trial.told, finished=trial.status == "FINISHED")
    memory = Memory(box, "trial", parent, study.search.trials, progress, map(outcome_of, ended), left)
    if search.left:
        run_trials(study, memory, f"sweep-{parent[:8]}", search.left, search=search, scheduler=scheduler)
    search.close()
    return memory.outcomes
