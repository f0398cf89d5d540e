"""One encoder's scores in SUPERB's tasks, each kept on disk with all that it was made from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from wav2bold.options import write_whole
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, digest_of
from wav2bold.trainables.superb import qbe
from wav2bold.trainables.superb.clips import digest_of as digest_of_clips
from wav2bold.trainables.superb.fitting import Plan, fit
from wav2bold.trainables.superb.hidden import pooled
from wav2bold.trainables.superb.learning import CHECKPOINT, Course, Learnt, Lesson, learn
from wav2bold.trainables.superb.librispeech import read_spoken
from wav2bold.trainables.superb.protocol import RESULT, Options, Published, Score, score_from
from wav2bold.trainables.superb.searching import search, trials
from wav2bold.trainables.superb.stdlist import write_stdlist
from wav2bold.trainables.superb.tasks import FRAMED, POOLED, SEARCHED, SPOKEN, TASKS, check_needs
from wav2bold.trainables.superb.transcribing import Beside, spoken_course
from wav2bold.trainables.superb.utterances import Fold

FORMAT = 3
"""Of results on disk: others are made anew."""
LIBRARIES = ("wav2bold", "torch", "transformers", "numpy")
"""Another version of these may give other numbers."""

Identity = Mapping[str, Any]
"""All that a score depends on, JSON-like, by which it is known again."""
Scored = dict[str, tuple[Score, bool]]
"""By task, its score and whether that was there already."""


def hearing(encoder: Encoder, normalize_wav: bool | None) -> Encoder:
    """The encoder that hears normalised sound, or doesn't; None: as it is. It is another one by digest."""
    if normalize_wav is None or encoder.extractor.do_normalize == normalize_wav:
        return encoder
    extractor = type(encoder.extractor)(**(encoder.extractor.to_dict() | {"do_normalize": normalize_wav}))
    return replace(encoder, extractor=extractor, digest=digest_of(encoder.model, extractor))


def score_tasks(
    encoder: Encoder, names: Sequence[str], data: Path, folder: Path, store: ActivationStore, options: Options
) -> Scored:
    """One encoder's scores in tasks; those made of the same data and options are there already.

    names: as `heard_together` groups them.  folder: for this encoder; each task has one of its own in it,
    made if absent, for its result and checkpoints.
    Raises DataError where data is missing or can't be used.
    """
    check_needs(names, data)
    if names[0] in SEARCHED:
        return {name: _score_searched(encoder, name, data, folder / name, store, options) for name in names}
    if names[0] in POOLED:
        return {name: _score_pooled(encoder, name, data, folder / name, store, options) for name in names}
    if names[0] in FRAMED:
        course, lesson = FRAMED[names[0]].read(data, options)
        return _score_course(encoder, course, [lesson], folder, store, options)
    return _score_spoken(encoder, names, data, folder, store, options)


def _score_pooled(
    encoder: Encoder, name: str, data: Path, folder: Path, store: ActivationStore, options: Options
) -> tuple[Score, bool]:
    task = POOLED[name]
    utterances = task.read(data, options)
    updates, every = options.length(task.published)
    plan = Plan(updates, every, task.published.batch, options.rates, options.seed)
    identity = _identity(encoder, name, plan, options) | {
        "clips": digest_of_clips(utterances.clips, utterances.root),
        "truth": _digest(utterances.classes, utterances.labels.tolist(), utterances.folds),
    }
    kept = _kept(folder / RESULT, identity)
    if kept is not None:
        return kept, True
    means = pooled(encoder, store, utterances.clips, utterances.root)
    checkpoints = [folder / f"fold{number}.safetensors" for number in range(len(utterances.folds))]
    fitted = [
        fit(utterances, fold, means, plan, encoder.device, checkpoint, identity)
        for fold, checkpoint in zip(utterances.folds, checkpoints, strict=True)
    ]
    tested = np.concatenate([fold.test for fold in utterances.folds])
    score = _score(
        name,
        task.published,
        options,
        parts=np.concatenate([one.right for one in fitted]).astype(np.float64),
        wholes=np.ones(len(tested)),
        unit=utterances.unit[tested],
        fold=np.repeat(np.arange(len(fitted)), [len(fold.test) for fold in utterances.folds]),
        rates=tuple(one.rate for one in fitted),
        dev=tuple(one.dev for one in fitted),
        weights=np.mean([one.weights for one in fitted], axis=0),
        lengths=means.lengths(),
    )
    _write(folder / RESULT, identity, score)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    return score, False


def _score_searched(
    encoder: Encoder, name: str, data: Path, folder: Path, store: ActivationStore, options: Options
) -> tuple[Score, bool]:
    asked = qbe.read(data)
    identity = _identity(encoder, name, None, options) | {
        "clips": digest_of_clips(asked.clips, asked.root),
        "truth": _digest(asked.dev.occurs.tolist(), asked.test.occurs.tolist()),
    }
    kept = _kept(folder / RESULT, identity)
    if kept is not None:
        return kept, True
    found = search(encoder, store, asked)
    documents = [clip.path.stem for clip in asked.documents]
    for part, queries, sure in zip(
        qbe.SETS, (asked.dev, asked.test), (found.sure_dev, found.sure_test), strict=True
    ):
        write_stdlist(folder / part, queries.names, documents, sure)
    unit, parts, wholes = trials(asked.test, found.sure_test)
    score = _score(
        name,
        SEARCHED[name].published,
        options,
        parts=parts,
        wholes=wholes,
        unit=unit,
        fold=np.zeros(len(unit), np.int64),
        rates=(),
        dev=({float(state): value for state, value in enumerate(found.dev)},),
        weights=np.eye(len(found.dev))[found.state],
        lengths=found.sizes,
    )
    _write(folder / RESULT, identity, score)
    return score, False


def _score_spoken(
    encoder: Encoder, names: Sequence[str], data: Path, folder: Path, store: ActivationStore, options: Options
) -> Scored:
    spoken = read_spoken(data)
    lessons = [SPOKEN[name].lesson(data, spoken, options) for name in names]
    course = spoken_course(spoken, SPOKEN[names[0]].published.batch, options.seed)
    return _score_course(encoder, course, lessons, folder, store, options)


def _score_course(
    encoder: Encoder,
    course: Course,
    lessons: Sequence[Lesson],
    folder: Path,
    store: ActivationStore,
    options: Options,
) -> Scored:
    """The lessons that aren't kept are learnt together."""
    clips = digest_of_clips(course.clips, course.root)
    identities = {
        lesson.name: _identity(encoder, lesson.name, _plan(lesson, options), options)
        | {"clips": clips, "truth": _digest(lesson.truth, course.fold)}
        for lesson in lessons
    }
    kept = {name: _kept(folder / name / RESULT, identity) for name, identity in identities.items()}
    found: Scored = {name: (score, True) for name, score in kept.items() if score is not None}
    new = [lesson for lesson in lessons if lesson.name not in found]
    if not new:
        return found
    place = folder / new[0].name
    learnt = learn(
        encoder,
        course,
        new,
        options.rates,
        options.seed,
        place,
        {lesson.name: identities[lesson.name] for lesson in new},
        store,
    )
    for lesson in new:
        score = _learnt_score(lesson, learnt[lesson.name], course, options)
        _write(folder / lesson.name / RESULT, identities[lesson.name], score)
        found[lesson.name] = score, False
    (place / CHECKPOINT).unlink(missing_ok=True)
    return found


def _plan(lesson: Lesson, options: Options) -> Plan:
    batch = TASKS[lesson.name].published.batch
    return Plan(lesson.updates, lesson.every, batch, options.rates, options.seed)


def _learnt_score(lesson: Lesson, learnt: Learnt, course: Course, options: Options) -> Score:
    published = TASKS[lesson.name].published
    sign = -1 if published.higher_is_better else 1  # what is learnt has the least score
    score = _score(
        lesson.name,
        published,
        options,
        parts=learnt.judged.parts,
        wholes=learnt.judged.wholes,
        unit=course.unit,
        fold=np.zeros(len(course.unit), np.int64),
        rates=(learnt.rate,),
        dev=({rate: sign * value for rate, value in learnt.dev.items()},),
        weights=learnt.weights,
        lengths=learnt.sizes,
        settings=dict(zip(published.settings, learnt.judged.setting, strict=True)),
    )
    others = FRAMED[lesson.name].beside if lesson.name in FRAMED else {}
    truth = [lesson.truth[row] for row in course.fold.test] if others else []
    beside = (_beside(score, metric, other, truth, learnt.told) for metric, other in others.items())
    return replace(score, beside=tuple(beside))


def _beside(score: Score, metric: str, other: Beside, truth: Sequence[Any], told: Sequence[Any]) -> Score:
    """The same by another metric of each test clip's truth and what was told of it."""
    counted = [other.counted(*pair) for pair in zip(truth, told, strict=True)]
    parts, wholes = np.array(counted, np.float64).T
    return replace(
        score,
        metric=metric,
        higher_is_better=other.higher_is_better,
        dev=({},),
        parts=parts,
        wholes=wholes,
    )


def _score(name: str, published: Published, options: Options, **found: Any) -> Score:
    return Score(
        task=name,
        metric=published.metric,
        higher_is_better=published.higher_is_better,
        deviations=options.deviations(published),
        statistic=published.statistic,
        **found,
    )


def _identity(encoder: Encoder, name: str, plan: Plan | None, options: Options) -> dict[str, Any]:
    """plan: None for a task without a head."""
    return {
        "format": FORMAT,
        "task": name,
        "encoder": encoder.digest,
        "normalize_wav": bool(encoder.extractor.do_normalize),
        "by_test": options.chooses_on_test(TASKS[name].published),
        "plan": None if plan is None else vars(plan) | {"rates": list(plan.rates)},
        "versions": {library: version(library) for library in LIBRARIES},
    }


def _digest(*parts: Any) -> str:
    """Content address of what is to be told, and of who trains, chooses and tests."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        for one in part if isinstance(part, tuple) else (part,):
            known = [rows.tolist() for rows in vars(one).values()] if isinstance(one, Fold) else one
            hasher.update(repr(known).encode())
    return hasher.hexdigest()


def _kept(path: Path, identity: Identity) -> Score | None:
    """The score in a file, if there is one of this identity."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return score_from(told["score"]) if told.get("identity") == identity else None


def _write(path: Path, identity: Identity, score: Score) -> None:
    write_whole(path, json.dumps({"identity": identity, "score": score.to_json()}, allow_nan=False))
