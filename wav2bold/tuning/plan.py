"""What a study takes and what a cluster has: told before anything is spent, checked before all begins."""

import shutil
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from wav2bold.cluster.fit import Demand, refuse_impossible, refuse_too_large, trials_at_once, what_limits
from wav2bold.cluster.shape import Shape, connected_shape
from wav2bold.config import Configuration, ParameterType, Study
from wav2bold.datasets.shards import DatasetCard, Shards, open_shards
from wav2bold.datasets.splits import split_stories
from wav2bold.errors import DataError, EncoderError
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.needs import Heard, Memory, heard_in, least_memory, memory_of, stored_bytes
from wav2bold.trainables.unfreezing import lowest_boundary
from wav2bold.tuning.calibration import Pace
from wav2bold.tuning.workshop import longest_history


@dataclass(frozen=True)
class Plan:
    """What a sweep takes, and how a cluster would hold it.

    at_once: trials that it holds at a time, no more than the study asks for.  limits: what keeps more from
    running.  train, validation: windows.  targets: of all people together.  memory: of one worker, with the
    largest configuration of the search.  object_store: bytes that Ray carries.  activations: bytes that the
    study's own configuration stores.  activations_most: those of the largest.  disk_free: bytes where results
    go, what the store holds already included.  pace: of a trial, None if nothing was timed.
    """

    shape: Shape
    demand: Demand
    trials: int
    at_once: int
    limits: str
    people: int
    train: int
    validation: int
    targets: int
    memory: Memory
    object_store: int
    activations: int
    activations_most: int
    disk_free: int
    pace: Pace | None = None

    @property
    def hours(self) -> float | None:
        """Of the whole sweep, if every trial takes as long as the study's own; None if nothing was timed."""
        return None if self.pace is None else self.pace.hours(self.trials, max(self.at_once, 1))


@dataclass(frozen=True)
class Material:
    """What is known of a study before it begins. splits: training, then validation."""

    shards: Shards
    encoder: Encoder
    subjects: tuple[str, ...]
    splits: tuple[Heard, Heard]


def plan(study: Study, subjects: Sequence[str], shape: Shape) -> Plan:
    """How a sweep of these people would run on a cluster.

    Raises StudyError if it can't ever, with the smallest change that makes it fit, or DataError if its
    activations don't fit on the disk.
    """
    some = material_of(study, open_shards(study.shards), load_encoder(study.encoder), subjects)
    configurations = tuple(asked_for(study, some.encoder))
    held = largest_together(study, subjects, some.shards.card)
    at_a_time = material_of(study, some.shards, some.encoder, held)
    refuse_unfit(study, shape, at_a_time, configurations)
    most = max(
        (memory_of(some.shards, some.encoder, each, *at_a_time.splits) for each in configurations),
        key=lambda memory: memory.total,
    )
    demand = Demand.of(study.search, most.total)
    own, *others = (
        stored_bytes(some.shards, some.encoder, each, some.splits, study.activations.dtype)
        for each in configurations
    )
    train, validation = some.splits
    found = Plan(
        shape=shape,
        demand=demand,
        trials=study.search.trials,
        at_once=min(trials_at_once(shape, demand), study.search.parallel, study.search.trials),
        limits=what_limits(shape, demand, study.search),
        people=len(some.subjects),
        train=train.rows,
        validation=validation.rows,
        targets=train.targets,
        memory=most,
        object_store=len(study.model_dump_json()) * study.search.trials,
        activations=own,
        activations_most=max([own, *others]),
        disk_free=_room(study.results),
    )
    if own > found.disk_free:
        raise DataError(
            f"{study.results}: the study's own configuration stores {own / 1e9:.1f} GB of activations, and "
            f"{found.disk_free / 1e9:.1f} GB are free",
            "choose another folder as `results`, or set activations.dtype: bfloat16 for half of it",
        )
    return found


def largest_together(study: Study, subjects: Sequence[str], card: DatasetCard) -> tuple[str, ...]:
    """Of those whom a trial refines, who are in memory together: all, or the one who has the most targets."""
    if study.search.objective is None:
        return tuple(subjects)
    return (max(subjects, key=lambda subject: card.subjects[subject].targets),)


def material_of(study: Study, shards: Shards, encoder: Encoder, subjects: Sequence[str]) -> Material:
    """What is known of a study before it begins; only times are read of the recordings."""
    stories = split_stories(study.split, shards.card)
    longest = longest_history(study)
    train, validation = (
        heard_in(shards, subjects, some, longest) for some in (stories.train, stories.validation)
    )
    return Material(shards, encoder, tuple(subjects), (train, validation))


def asked_for(study: Study, encoder: Encoder) -> Iterator[Configuration]:
    """The study's own configuration, then the largest that a sweep may try: nothing in between takes more.

    These hear the longest history, read what may be read, and train each type that the space names in every
    layer, by itself, for the boundary that it leaves, or all together.
    """
    own, space = study.configuration, study.search.space
    yield own
    adapted = () if own.lora is None else own.lora.targets
    wanted = tuple(own.unfrozen) if space.unfrozen is None else space.unfrozen
    kinds: tuple[ParameterType, ...] = tuple(kind for kind in wanted if kind not in adapted)
    longest = max(own.history, space.history.high)
    for layers, pooling, some in product(
        space.layers or (own.layers,),
        space.pooling or (own.pooling,),
        ((), *((kind,) for kind in kinds), kinds),
    ):
        larger = own.model_copy(
            update={
                "history": longest,
                "unfrozen": dict.fromkeys(some),
                "layers": layers,
                "pooling": pooling,
            }
        )
        with suppress(EncoderError):  # the trial that asks for what the encoder lacks tells of it
            lowest_boundary(encoder, larger)
            yield larger


def refuse_on_this_cluster(
    study: Study,
    shards: Shards,
    encoder: Encoder,
    subjects: Sequence[str],
    configurations: Sequence[Configuration] | None = None,
) -> None:
    """`refuse_unfit` on the cluster that we are connected to.

    configurations: the only ones to be run; None for all that a sweep may try.
    """
    shape = connected_shape()
    refuse_impossible(shape, study.search)
    try:
        some = material_of(study, shards, encoder, subjects)
    except DataError:
        return  # a trial whose recordings can't be read tells of it, and is remembered
    wanted = asked_for(study, encoder) if configurations is None else configurations
    refuse_unfit(study, shape, some, tuple(wanted))


def refuse_unfit(study: Study, shape: Shape, some: Material, configurations: Sequence[Configuration]) -> None:
    """Raise StudyError if a trial of these can't ever be placed on a cluster, or no machine has the memory.

    Memory is that with one window at a time in stage 2, to which a trial goes down by itself.
    """
    refuse_impossible(shape, study.search)
    search = study.search

    def needed(people: int) -> int:
        targets = sum(some.shards.card.subjects[who].targets for who in some.subjects[:people])
        train, validation = (replace(heard, targets=targets) for heard in some.splits)
        return max(
            least_memory(some.shards, some.encoder, each, train, validation).total for each in configurations
        )

    def fewer(most: float) -> str | None:
        fit = bisect_right(range(1, len(some.subjects)), most, key=needed)
        return f"name {fit} of the {len(some.subjects)} people as `subjects`" if fit else None

    refuse_too_large(shape, search, needed(len(some.subjects)), fewer)


def _room(results: Path) -> int:
    """Bytes free where results go, with what the activation store there already holds."""
    folder = next(each for each in (results, *results.resolve().parents) if each.exists())
    store = results / "activations"
    held = sum(path.stat().st_size for path in store.rglob("*.safetensors")) if store.is_dir() else 0
    return shutil.disk_usage(folder).free + held
