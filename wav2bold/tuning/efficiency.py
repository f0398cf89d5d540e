"""What a new subject's minutes are worth to an encoder as it came, refined on others, and then on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wav2bold.cluster.connect import connected
from wav2bold.cluster.shape import connected_shape
from wav2bold.config import Configuration, Study
from wav2bold.datasets.budget import first_minutes, held_back, minutes_of
from wav2bold.datasets.shards import Shards, open_shards
from wav2bold.datasets.splits import Stories, split_stories
from wav2bold.datasets.windows import windows
from wav2bold.errors import DataError, RunsFailed, StudyError
from wav2bold.evaluation.intervals import Interval, Resampled
from wav2bold.evaluation.learning_curve import scores_by_minutes
from wav2bold.evaluation.minutes import FOLDER, KINDS, Efficiency
from wav2bold.evaluation.saving import Saving, saving
from wav2bold.options import short_digest, write_whole
from wav2bold.progress import Progress, silent
from wav2bold.trainables.counting import trained_count
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.origin import origin_of
from wav2bold.trainables.unfreezing import lowest_boundary
from wav2bold.tuning.apart import worked_apart
from wav2bold.tuning.circumstances import circumstances
from wav2bold.tuning.engine import Memory, run_trials
from wav2bold.tuning.outbox import Outbox, opened, outbox
from wav2bold.tuning.sweep import chosen_subjects
from wav2bold.tuning.workshop import activation_store, device_for, longest_history

HALVINGS = 3
"""Budgets that are taken where none are named: all minutes, their half, and so on."""

Task = dict[str, Any]


def efficiency(
    study: Study,
    subject: str,
    configuration: Configuration,
    minutes: Sequence[float] | None = None,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
) -> Efficiency:
    """Refine on all other subjects, go on with the first `minutes` of this one, and score each on its test.

    minutes: None for all there are, their half, a quarter and an eighth. Of each budget the last fifth
    chooses the epoch: nothing else of the subject is read but the test stories.
    Refined encoders lie in `efficiency/<subject>` in the results folder, and are kept if they are the same.
    The result is written beside them, as `efficiency/<subject>.json`, and into MLflow.
    Raises DataError for minutes or subjects that can't be, StudyError for a configuration that refines
    nothing, RunsFailed if a refinement fails.
    """
    if not configuration.refines:
        raise StudyError("efficiency: the configuration trains the head alone", "give one that refines")
    shards = open_shards(study.shards)
    stories = split_stories(study.split, shards.card)
    everyone = chosen_subjects(study.subjects, shards.card)
    (subject,) = chosen_subjects((subject,), shards.card)
    others = tuple(one for one in everyone if one != subject)
    if not others:
        raise DataError(f"{study.shards}: there is nobody but {subject}", "take a study of several subjects")
    budgets = _budgets(study, shards, stories, subject, minutes)
    encoder = load_encoder(study.encoder)
    lowest_boundary(encoder, configuration)
    place = study.results / FOLDER / subject
    trained = trained_count(encoder, configuration)
    common = {"configuration": configuration.model_dump(mode="json"), "trained_parameters": trained}
    shared = {
        "configuration": configuration.digest,
        "encoder": encoder.digest,
        "dataset": shards.card.digest,
        "split": study.split.model_dump(mode="json"),
        "longest_history": longest_history(study),
        "seed": study.seed,
    }
    first = common | {
        "name": "others",
        "subjects": list(others),
        "origin": shared | {"subject": f"all but {subject}", "subjects": list(others)},
    }
    base = short_digest(first["origin"])
    later = [
        common
        | {
            "name": f"minutes-{each:g}",
            "subjects": [subject],
            "minutes": each,
            "origin": shared | {"subject": subject, "minutes": each, "after": base},
        }
        for each in budgets
    ]
    # few volumes need no several workers, who would read all of them
    few = study.search.model_copy(update={"workers": 1})
    after = study.model_copy(update={"encoder": str((place / "others").resolve()), "search": few})
    tracker = opened(study, progress)
    with connected(address, cpus):
        tags = circumstances(Path.cwd(), connected_shape())
        with tracker.answering():
            parent = tracker.begin("efficiency", f"efficiency {subject}", study, shards.card, tags)
        with outbox(tracker, study, parent, progress) as box:
            try:
                for stage, of, tasks in (("others", study, [first]), ("own", after, later)):
                    _refined(of, place, tasks, box, parent, stage, progress)
                found = _scored(study, stories, subject, configuration, budgets, place, progress)
            except BaseException as error:
                box.end(parent, "FAILED" if isinstance(error, Exception) else "KILLED")
                raise
            test = windows(shards, [subject], stories.test, longest_history(study))
            result = Efficiency(
                subject=subject,
                others=others,
                minutes=budgets,
                curves=_curves(found),
                savings=_savings(found, budgets),
                configuration=configuration.digest,
                volumes=len(test),
                targets=test.y.shape[1],
                dataset=shards.card.digest,
            )
            path = place.with_name(f"{subject}.json")
            write_whole(path, result.to_json())
            _remember(result, path, box, parent)
            box.end(parent)
    return result


def _budgets(
    study: Study,
    shards: Shards,
    stories: Stories,
    subject: str,
    minutes: Sequence[float] | None,
) -> tuple[float, ...]:
    """Ascending, each once. Raises DataError for those that can't be, before anything is refined."""
    longest, tr_s = longest_history(study), shards.card.tr_s
    train = windows(shards, [subject], stories.train, longest)
    whole = minutes_of(train, tr_s)
    if minutes is None:
        rows = [len(train) // 2**halving for halving in range(HALVINGS + 1)]
        minutes = [each * tr_s / 60 for each in rows]
    found = tuple(sorted(set(map(float, minutes))))
    if len(found) < 2:
        raise DataError(f"--minutes: a curve needs two budgets, up to {whole:.3g}", "name more")
    for each in found:
        held_back(first_minutes(train, tr_s, each), tr_s, longest)
    return found


def _refined(
    study: Study,
    place: Path,
    tasks: Sequence[Task],
    box: Outbox,
    parent: str,
    stage: str,
    progress: Progress,
) -> None:
    """Refine what isn't there yet. Raises RunsFailed if any fails."""
    wanted = [task for task in tasks if origin_of(place / task["name"]) != task["origin"]]
    numbered = [
        task | {"number": number, "out": str((place / task["name"]).resolve())}
        for number, task in enumerate(wanted)
    ]
    if not numbered:
        return
    memory = Memory(box, "budget", parent, len(numbered), progress)
    outcomes = run_trials(study, memory, f"efficiency-{stage}-{parent[:8]}", len(numbered), tasks=numbered)
    failed = tuple((wanted[one.number]["name"], one.reason) for one in outcomes if one.failed)
    if failed:
        raise RunsFailed(failed)


def _scored(
    study: Study,
    stories: Stories,
    subject: str,
    configuration: Configuration,
    budgets: tuple[float, ...],
    place: Path,
    progress: Progress,
) -> dict[str, list[Resampled]]:
    """By KINDS; the first two of all budgets at once, the last of one each."""
    asked = [("frozen", study.encoder, budgets), ("others", str(place / "others"), budgets)]
    asked += [("own", str(place / f"minutes-{each:g}"), (each,)) for each in budgets]
    pieces = [(stories, subject, configuration, encoder, some) for _, encoder, some in asked]
    names = [f"testing {subject}, {kind}" for kind, *_ in asked]
    tested = worked_apart(study, _score, pieces, names, progress)
    found: dict[str, list[Resampled]] = {kind: [] for kind in KINDS}
    for (kind, *_), one in zip(asked, tested, strict=True):
        found[kind].append(one)
    return found


def _score(
    study: Study,
    stories: Stories,
    subject: str,
    configuration: Configuration,
    encoder: str,
    minutes: tuple[float, ...],
) -> Resampled:
    """One encoder's with each of some budgets."""
    return scores_by_minutes(
        load_encoder(encoder, device_for(study)),
        open_shards(study.shards),
        activation_store(study),
        stories,
        subject,
        configuration,
        longest_history(study),
        minutes,
    )


def _curves(found: Mapping[str, Sequence[Resampled]]) -> dict[str, tuple[Interval, ...]]:
    return {
        kind: tuple(one.interval(number) for one in some for number in range(len(one.scores)))
        for kind, some in found.items()
    }


def _savings(found: Mapping[str, Sequence[Resampled]], budgets: Sequence[float]) -> dict[str, Saving]:
    scores = {kind: np.concatenate([one.scores[:, 0] for one in some]) for kind, some in found.items()}
    draws = {
        kind: np.concatenate([one.draws[:, :, 0] for one in some], axis=1) for kind, some in found.items()
    }
    return {
        kind: saving(budgets, scores["frozen"], scores[kind], draws["frozen"], draws[kind])
        for kind in KINDS[1:]
    }


def _remember(result: Efficiency, path: Path, box: Outbox, parent: str) -> None:
    """Scores by seconds of data as their steps, and the factors."""
    for number, each in enumerate(result.minutes):
        scores = {f"{FOLDER}.{kind}": curve[number].value for kind, curve in result.curves.items()}
        box.metrics(parent, scores, step=round(60 * each))
    factors = {
        f"{FOLDER}.{kind}.{end}": value
        for kind, one in result.savings.items()
        for end, value in (("factor", one.factor), ("low", one.low), ("high", one.high))
        if abs(value) != float("inf")
    }
    box.metrics(parent, factors, step=0)
    box.artifact(parent, path)
