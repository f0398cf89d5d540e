"""Encoders of a study, or any others, scored on its test stories or on those of other shards."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import Shards, open_shards
from wav2bold.datasets.splits import Stories, default_split, split_stories
from wav2bold.datasets.starter import study_path
from wav2bold.errors import DataError
from wav2bold.evaluation.audience import Audience
from wav2bold.evaluation.beyond import beyond_low_level
from wav2bold.evaluation.evaluated import Beyond, Scored
from wav2bold.evaluation.scoring import score_encoder, score_layers
from wav2bold.evaluation.untrained import untrained
from wav2bold.places import Place
from wav2bold.progress import Progress, silent
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.origin import origin_of
from wav2bold.tuning.workshop import activation_store, device_for, longest_history


@dataclass(frozen=True)
class Control:
    """What is not as it was, so that a score should fall.

    random_weights: encoders keep their architecture and nothing else.  shift_bold, bold_of: see `Audience`.
    """

    random_weights: bool = False
    shift_bold: bool = False
    bold_of: str | None = None


def score(
    study: Study,
    encoders: Sequence[str] = (),
    shards: Place | None = None,
    subjects: Sequence[str] | None = None,
    control: Control | None = None,
    *,
    by_layer: bool = False,
    by_region: bool = False,
    progress: Progress = silent,
) -> list[Scored]:
    """Every encoder's scores with every subject, one encoder after the other.

    encoders: folders, refined or not, or hub names; none: the study's own. A refined one hears as it did when
    it was refined, any other as the study's configuration says.  shards: others than the study's.
    subjects: None for all who heard stories that train and stories that test.
    Raises DataError for a subject that the shards lack, or if other shards have no split.
    """
    control = control or Control()
    study, audience, store = _begin(study, shards, subjects, control)
    found = list[Scored]()
    for encoder, configuration in _encoders(study, encoders, control):
        way: Callable[..., Iterator[Scored]] = score_layers if by_layer else score_encoder
        total = len(audience.subjects) * (encoder.layers + 1 if by_layer else 1)
        done = set[tuple[str, int | None]]()
        progress(f"hearing with {encoder.name}", 0, total)
        for one in way(encoder, audience, store, configuration, regions=by_region):
            found.append(one)
            done.add((one.subject, one.layer))
            progress(f"scoring {one.subject}", len(done), total)
    return found


def score_beyond(
    study: Study,
    encoders: Sequence[str] = (),
    shards: Place | None = None,
    subjects: Sequence[str] | None = None,
    control: Control | None = None,
    progress: Progress = silent,
) -> list[Beyond]:
    """What every encoder explains beyond low-level features of the sound; otherwise as `score`."""
    control = control or Control()
    study, audience, store = _begin(study, shards, subjects, control)
    found = list[Beyond]()
    for encoder, configuration in _encoders(study, encoders, control):
        progress(f"hearing with {encoder.name}", 0, len(audience.subjects))
        for number, one in enumerate(
            beyond_low_level(encoder, audience, store, configuration, study.seed), start=1
        ):
            found.append(one)
            progress(f"scoring {one.subject}", number, len(audience.subjects))
    return found


def _begin(
    study: Study, shards: Place | None, subjects: Sequence[str] | None, control: Control
) -> tuple[Study, Audience, ActivationStore]:
    """The study on the shards that are meant, who is scored, and where activations are kept."""
    study, opened, stories = _place_of(study, shards)
    people = _people(opened, stories, subjects, control.bold_of)
    torch.set_flush_denormal(True)
    history = longest_history(study)
    audience = Audience(opened, stories, people, history, control.shift_bold, control.bold_of)
    return study, audience, activation_store(study)


def _place_of(study: Study, shards: Place | None) -> tuple[Study, Shards, Stories]:
    """The study on the shards that are meant, and which of their stories train and test."""
    if shards is not None:
        opened, path = open_shards(shards), study_path(shards)
        split = Study.load(path).split if path.is_file() else default_split(opened.card.stories)
        if split is None:
            raise DataError(
                f"{shards}: has {len(opened.card.stories)} stories, a split needs 3",
                f"write a study file with a split as {path}",
            )
        study = study.model_copy(update={"shards": shards, "split": split})
    opened = open_shards(study.shards)
    return study, opened, split_stories(study.split, opened.card)


def _people(
    shards: Shards, stories: Stories, wanted: Sequence[str] | None, bold_of: str | None
) -> tuple[str, ...]:
    """Whose scores are asked for."""
    for subject in (*(wanted or ()), *filter(None, (bold_of,))):
        shards.target_table(subject, ["target"])  # says so if there is no such subject
    if wanted is not None:
        return tuple(dict.fromkeys(wanted))
    people = tuple(
        name
        for name, person in shards.card.subjects.items()
        if all(set(role) & set(person.stories) for role in (stories.train, stories.test))
    )
    if not people:
        raise DataError(
            f"{shards.root}: nobody heard both a story that trains and one that tests",
            "change split in the study file",
        )
    return people


def _encoders(
    study: Study, names: Sequence[str], control: Control
) -> Iterator[tuple[Encoder, Configuration]]:
    for name in names or (study.encoder,):
        encoder, configuration = load_encoder(name, device_for(study)), study.configuration
        if origin_of(Path(name)) is not None:
            configuration = Configuration.load(Path(name) / "config.yaml")
        yield (untrained(encoder, study.seed) if control.random_weights else encoder), configuration
