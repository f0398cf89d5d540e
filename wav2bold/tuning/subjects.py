"""One configuration, many subjects, and subsets of parameters: each refined by itself, side by side."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2bold.cluster.connect import connected
from wav2bold.cluster.shape import connected_shape
from wav2bold.cluster.storage import check_storage
from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import CARD_NAME, Shards, open_shards
from wav2bold.datasets.splits import split_stories
from wav2bold.errors import DataError, RunsFailed, StudyError
from wav2bold.options import short_digest, write_whole
from wav2bold.progress import Progress, silent
from wav2bold.trainables.counting import trained_count
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.origin import origin_of
from wav2bold.trainables.unfreezing import lowest_boundary
from wav2bold.tuning.circumstances import circumstances
from wav2bold.tuning.engine import Memory, run_trials
from wav2bold.tuning.heat_map import heat_map_png
from wav2bold.tuning.outbox import opened, outbox
from wav2bold.tuning.plan import refuse_on_this_cluster
from wav2bold.tuning.registry import Registered, check_name, register
from wav2bold.tuning.subset_scores import SUBSET, SubsetScore, as_tsv, averaged, subset_score
from wav2bold.tuning.subsets import Subset, chosen_subsets
from wav2bold.tuning.sweep import chosen_subjects
from wav2bold.tuning.workshop import longest_history

TABLE, PICTURE = "subsets.tsv", "subsets.png"


@dataclass(frozen=True)
class RefinedSubjects:
    """Where each refined encoder lies, by `<subject>`, or `<subset>/<subject>` where subsets were refined.

    done: refined now.  kept: was there already.  subsets: what each of them brought each subject; empty
    where there are none.  registered: the champion, where it was asked for.
    """

    out: Path
    folders: dict[str, Path]
    done: tuple[str, ...]
    kept: tuple[str, ...]
    subsets: tuple[SubsetScore, ...] = ()
    registered: Registered | None = None


def refine(
    study: Study,
    configuration: Configuration,
    subjects: Sequence[str] | None = None,
    out: Path | None = None,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    subsets: str | Path | None = None,
    model: str | None = None,
) -> RefinedSubjects:
    """Refine the encoder for each subject by itself, in parallel, into `out/<subject>/`.

    subjects: ids, or None for all in the shards.  out: default `refined` in the results folder.
    subsets: a file of subsets of the encoder's parameters or "each", as `chosen_subsets` takes them: one
    refinement for each of them and each subject, into `out/<subset>/<subject>/` (default `refined-subsets`),
    with a table and a picture of what they brought beside.
    model: name under which the encoders go into MLflow's model registry, as `registry.register` does it.
    A folder that was made from the same data, encoder, configuration and seed is kept. A refinement that was
    interrupted goes on from its last epoch, which a hidden folder beside holds.
    Raises RunsFailed if some failed (the others are done), DataError for a folder that isn't ours or a disk
    that is too small, StudyError and EncoderError for subsets that can't be, TrackingError for the registry.
    """
    if model is not None:
        check_name(model)
    if model is not None and subsets is not None:
        raise StudyError("--register and --subsets don't go together", "of subsets MLflow keeps no weights")
    shards = open_shards(study.shards)
    split_stories(study.split, shards.card)
    who = chosen_subjects(None if subjects is None else tuple(subjects), shards.card)
    encoder = load_encoder(study.encoder)
    chosen = None if subsets is None else chosen_subsets(encoder, configuration, subsets)
    configurations = [one.alone(configuration) for one in chosen] if chosen else [configuration]
    lowest_boundary(encoder, configurations[0])  # its mistakes come before any work
    out = Path(out or study.results / ("refined" if chosen is None else "refined-subsets"))
    _check_ours(out, chosen)
    folders: dict[str, Path] = {}
    tasks: list[dict[str, Any]] = []
    for task in _tasks(study, configuration, shards, encoder, who, chosen):
        folder = folders[task["name"]] = out / task["name"]
        found = origin_of(folder)
        if folder.exists() and found is None:
            raise DataError(f"{folder}: is there and holds no refined encoder", "choose another --out")
        if found != task["origin"]:
            tasks.append(task | {"number": len(tasks), "out": str(folder.resolve())})
    done = tuple(task["name"] for task in tasks)
    begun, scores = set(done), tuple[SubsetScore, ...]()
    kept = tuple(name for name in folders if name not in begun)
    if tasks:
        _refuse_small_disk(out, len(tasks), encoder)
        tracker = opened(study, progress)
        largest = max(
            (str(task["subjects"][0]) for task in tasks), key=lambda one: shards.card.subjects[one].targets
        )
        with connected(address, cpus):
            refuse_on_this_cluster(study, shards, encoder, (largest,), configurations)
            check_storage([study.results, out], [study.shards / CARD_NAME])
            tags = circumstances(Path.cwd(), connected_shape())
            with tracker.answering():
                parent = tracker.begin(
                    "refine", f"refine {study.name} into {out.name}", study, shards.card, tags
                )
            with outbox(tracker, study, parent, progress) as box:
                memory = Memory(box, "subject" if chosen is None else "subset", parent, len(tasks), progress)
                try:
                    outcomes = run_trials(study, memory, f"refine-{parent[:8]}", len(tasks), tasks=tasks)
                except BaseException:
                    box.end(parent, "KILLED")
                    raise
                failed = {done[outcome.number]: outcome.reason for outcome in outcomes if outcome.failed}
                if chosen is not None:
                    whole = [folder for name, folder in folders.items() if name not in failed]
                    scores = tuple(map(subset_score, whole))
                    for path in _tell(scores, out) if scores else ():
                        box.artifact(parent, path)
                box.end(parent, "FAILED" if failed else "FINISHED")
        if failed:
            raise RunsFailed(tuple(failed.items()))
    elif chosen is not None:
        scores = tuple(map(subset_score, folders.values()))
    registered = None if model is None else register(opened(study, progress), model, configuration, who)
    return RefinedSubjects(out, folders, done, kept, scores, registered)


def _tasks(
    study: Study,
    configuration: Configuration,
    shards: Shards,
    encoder: Encoder,
    who: Sequence[str],
    subsets: Sequence[Subset] | None,
) -> Iterator[dict[str, Any]]:
    """What is asked for: tasks as `workshop.Task`, but for number and folder.

    A subject's come one after the other: its warm actors keep what they read of it.
    """
    shared = {
        "encoder": encoder.digest,
        "dataset": shards.card.digest,
        "split": study.split.model_dump(mode="json"),
        "longest_history": longest_history(study),
        "seed": study.seed,
    }
    rest = short_digest(Subset("", {}).alone(configuration).model_dump(mode="json"))
    wanted: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for subset in subsets or (None,):
        own = configuration if subset is None else subset.alone(configuration)
        plain, trained = own.model_dump(mode="json"), trained_count(encoder, own)
        task = {"configuration": plain, "trained_parameters": trained}
        origin = {"configuration": own.digest} | shared
        if subset is not None:
            told = {"name": subset.name, "unfrozen": plain["unfrozen"], "rest": rest}
            origin[SUBSET] = told | {"parameters": trained, "layers": encoder.layers}
        wanted.append(("" if subset is None else f"{subset.name}/", task, origin))
    for subject in who:
        for place, task, origin in wanted:
            own_origin = {"subject": subject} | origin
            yield task | {"name": f"{place}{subject}", "subjects": [subject], "origin": own_origin}


def _tell(scores: Sequence[SubsetScore], out: Path) -> tuple[Path, Path]:
    """Write a table of what every subset brought, and a picture of the means over subjects."""
    write_whole(out / TABLE, as_tsv(scores))
    write_whole(out / PICTURE, heat_map_png(averaged(scores)))
    return out / TABLE, out / PICTURE


def _refuse_small_disk(out: Path, count: int, encoder: Encoder) -> None:
    """Raise DataError if so many copies of an encoder don't fit where they go."""
    size = count * sum(4 * parameter.numel() for parameter in encoder.model.parameters())  # float32
    above = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    free = shutil.disk_usage(above).free
    if size > free:
        raise DataError(
            f"{out}: {count} refined encoders take {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            "name fewer subjects or subsets, or a folder on a larger disk as --out",
        )


def _check_ours(out: Path, subsets: Sequence[Subset] | None) -> None:
    """Raise DataError if a folder holds things, but no refined encoder among them."""
    held = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if subsets is not None:
        ours = {TABLE, PICTURE, *(subset.name for subset in subsets)}
        held = [path for path in held if path.name not in ours]
    if held and not any(origin_of(path) for path in out.glob("*" if subsets is None else "*/*")):
        raise DataError(f"{out}: is not empty and holds no refined encoder", "choose another --out")
