"""SUPERB's tasks by name, and one encoder's score in one of them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from wav2bold.errors import DataError, StudyError
from wav2bold.options import nearest, write_whole
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, digest_of
from wav2bold.trainables.superb import er, ic, ks, sid
from wav2bold.trainables.superb.clips import digest_of as digest_of_clips
from wav2bold.trainables.superb.fitting import Plan, fit
from wav2bold.trainables.superb.hidden import pooled
from wav2bold.trainables.superb.protocol import Options, Published, Score, score_from
from wav2bold.trainables.superb.utterances import Utterances

FORMAT = 1
"""Of results on disk: others are made anew."""
LIBRARIES = ("wav2bold", "torch", "transformers", "numpy")
"""Another version of these may give other numbers."""
RESULT = "result.json"


@dataclass(frozen=True)
class Task:
    """needs: what must lie below the data folder, and where to get it.  read: the clips there."""

    published: Published
    needs: Mapping[str, str]
    read: Callable[[Path, Options], Utterances]


TASKS: Mapping[str, Task] = {
    "ks": Task(ks.PUBLISHED, ks.NEEDS, ks.read),
    "ic": Task(ic.PUBLISHED, ic.NEEDS, ic.read),
    "sid": Task(sid.PUBLISHED, sid.NEEDS, sid.read),
    "er": Task(er.PUBLISHED, er.NEEDS, er.read),
}


def check_tasks(names: Iterable[str]) -> tuple[str, ...]:
    """The tasks, each once. Raises StudyError for one that there isn't."""
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in TASKS:
            near = nearest(name, TASKS)
            cure = f"did you mean {near}? " if near else ""
            raise StudyError(f"--tasks: there is no task {name}", f"{cure}there are {', '.join(TASKS)}")
    if not found:
        raise StudyError("--tasks: names no task", f"there are {', '.join(TASKS)}")
    return found


def check_needs(names: Iterable[str], data: Path) -> None:
    """Raise DataError, with where to get it, unless the data folder has what these tasks begin from."""
    for name in names:
        for needed, cure in TASKS[name].needs.items():
            if not (data / needed).exists():
                raise DataError(f"{name}: there is no {data / needed}", cure)


def hearing(encoder: Encoder, normalize_wav: bool | None) -> Encoder:
    """The encoder that hears normalised sound, or doesn't; None: as it is. It is another one by digest."""
    if normalize_wav is None or encoder.extractor.do_normalize == normalize_wav:
        return encoder
    extractor = type(encoder.extractor)(**(encoder.extractor.to_dict() | {"do_normalize": normalize_wav}))
    return replace(encoder, extractor=extractor, digest=digest_of(encoder.model, extractor))


def score_task(
    encoder: Encoder, name: str, data: Path, folder: Path, store: ActivationStore, options: Options
) -> tuple[Score, bool]:
    """One encoder's score in one task, and whether it was there already: made of the same data and options.

    folder: for this encoder and task, made if absent: result and checkpoints.
    Raises DataError where data is missing or can't be used.
    """
    task = TASKS[name]
    check_needs((name,), data)
    utterances = task.read(data, options)
    updates, every = options.length(task.published)
    plan = Plan(updates, every, task.published.batch, options.rates, options.seed)
    identity = {
        "format": FORMAT,
        "task": name,
        "encoder": encoder.digest,
        "normalize_wav": bool(encoder.extractor.do_normalize),
        "clips": digest_of_clips(utterances.clips, utterances.root),
        "truth": _digest(utterances),
        "plan": vars(plan) | {"rates": list(plan.rates)},
        "versions": {library: version(library) for library in LIBRARIES},
    }
    kept = _kept(folder / RESULT, identity)
    if kept is not None:
        return kept, True
    means = pooled(encoder, store, utterances.clips, utterances.root)
    fitted = [
        fit(utterances, fold, means, plan, encoder.device, folder / f"fold{number}.safetensors", identity)
        for number, fold in enumerate(utterances.folds)
    ]
    tested = np.concatenate([fold.test for fold in utterances.folds])
    score = Score(
        task=name,
        metric=task.published.metric,
        higher_is_better=task.published.higher_is_better,
        parts=np.concatenate([one.right for one in fitted]).astype(np.float64),
        wholes=np.ones(len(tested)),
        unit=utterances.unit[tested],
        fold=np.repeat(np.arange(len(fitted)), [len(fold.test) for fold in utterances.folds]),
        rates=tuple(one.rate for one in fitted),
        dev=tuple(one.dev for one in fitted),
        weights=np.mean([one.weights for one in fitted], axis=0),
        lengths=means.lengths(),
        deviations=options.deviations(task.published),
    )
    write_whole(
        folder / RESULT, json.dumps({"identity": identity, "score": score.to_json()}, allow_nan=False)
    )
    for number in range(len(fitted)):
        (folder / f"fold{number}.safetensors").unlink(missing_ok=True)
    return score, False


def _digest(utterances: Utterances) -> str:
    """Content address of what is to be told, and of who trains, chooses and tests."""
    hasher = hashlib.blake2b(repr(utterances.classes).encode(), digest_size=16)
    folds = [part for fold in utterances.folds for part in (fold.train, fold.dev, fold.test)]
    for part in (utterances.labels, *folds):
        hasher.update(repr(part.shape).encode() + part.tobytes())
    return hasher.hexdigest()


def _kept(path: Path, identity: Mapping[str, Any]) -> Score | None:
    """The score in a file, if there is one of this identity."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return score_from(told["score"]) if told.get("identity") == identity else None
