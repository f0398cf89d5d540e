"""One configuration, many subjects: each refined by itself, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2bold.cluster.connect import connected
from wav2bold.cluster.storage import check_storage
from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import CARD_NAME, open_shards
from wav2bold.datasets.splits import split_stories
from wav2bold.errors import DataError, RunsFailed
from wav2bold.progress import Progress, silent
from wav2bold.trainables.checkpoint import origin_of
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.unfreezing import lowest_boundary
from wav2bold.tuning.engine import Memory, run_trials
from wav2bold.tuning.outbox import opened, outbox
from wav2bold.tuning.plan import refuse_on_this_cluster
from wav2bold.tuning.sweep import chosen_subjects
from wav2bold.tuning.workshop import longest_history


@dataclass(frozen=True)
class RefinedSubjects:
    """Where each subject's refined encoder lies. done: refined now.  kept: was there already."""

    folders: dict[str, Path]
    done: tuple[str, ...]
    kept: tuple[str, ...]


def refine(
    study: Study,
    configuration: Configuration,
    subjects: Sequence[str] | None = None,
    out: Path | None = None,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
) -> RefinedSubjects:
    """Refine the encoder for each subject by itself, in parallel, into `out/<subject>/`.

    subjects: ids, or None for all in the shards.  out: default `refined` in the results folder.
    A subject whose folder was made from the same data, encoder, configuration and seed is kept. One whose
    refinement was interrupted goes on from its last epoch, which `out/.<subject>.checkpoint` holds.
    Raises RunsFailed if some failed (the others are done), DataError for a folder that isn't ours.
    """
    shards = open_shards(study.shards)
    split_stories(study.split, shards.card)
    who = chosen_subjects(None if subjects is None else tuple(subjects), shards.card)
    encoder = load_encoder(study.encoder)
    lowest_boundary(encoder, configuration)  # its mistakes come before any work
    out = Path(out or study.results / "refined")
    _check_ours(out)
    tasks: list[dict[str, Any]] = []
    for subject in who:
        folder = out / subject
        origin = {
            "subject": subject,
            "configuration": configuration.digest,
            "encoder": encoder.digest,
            "dataset": shards.card.digest,
            "split": study.split.model_dump(mode="json"),
            "longest_history": longest_history(study),
            "seed": study.seed,
        }
        found = origin_of(folder)
        if folder.exists() and found is None:
            raise DataError(f"{folder}: is there and holds no refined encoder", "choose another --out")
        if found != origin:
            tasks.append(
                {
                    "number": len(tasks),
                    "configuration": configuration.model_dump(mode="json"),
                    "subjects": [subject],
                    "out": str(folder.resolve()),
                    "origin": origin,
                }
            )
    folders = {subject: out / subject for subject in who}
    done = tuple(str(task["subjects"][0]) for task in tasks)
    kept = tuple(subject for subject in who if subject not in done)
    if not tasks:
        return RefinedSubjects(folders, done, kept)
    tracker = opened(study, progress)
    largest = max(done, key=lambda subject: shards.card.subjects[subject].targets)
    with connected(address, cpus):
        refuse_on_this_cluster(study, shards, encoder, (largest,), configuration)
        check_storage([study.results, out], [study.shards / CARD_NAME])
        with tracker.answering():
            parent = tracker.begin("refine", f"refine {study.name} into {out.name}", study, shards.card)
        with outbox(tracker, study, parent, progress) as box:
            memory = Memory(box, "subject", parent, len(tasks), progress)
            try:
                outcomes = run_trials(study, memory, f"refine-{parent[:8]}", len(tasks), tasks=tasks)
            except BaseException:
                box.end(parent, "KILLED")
                raise
            for outcome in outcomes:
                if not outcome.failed:
                    box.artifact(outcome.run_id, Path(tasks[outcome.number]["out"]), "encoder")
            failed = [outcome for outcome in outcomes if outcome.failed]
            box.end(parent, "FAILED" if failed else "FINISHED")
    if failed:
        raise RunsFailed(tuple((str(tasks[one.number]["subjects"][0]), one.reason) for one in failed))
    return RefinedSubjects(folders, done, kept)


def _check_ours(out: Path) -> None:
    """Raise DataError if a folder holds things, but no refined encoder among them."""
    held = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if held and not any(origin_of(path) for path in held):
        raise DataError(f"{out}: is not empty and holds no refined encoder", "choose another --out")
