"""SUPERB's tasks for many encoders at once, over a Ray cluster, remembered in MLflow."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from wav2bold.cluster.connect import connected
from wav2bold.errors import UserError
from wav2bold.evaluation.superb_listing import Row, as_csv, as_json, rows_of
from wav2bold.options import write_whole
from wav2bold.progress import Progress, silent
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.superb.protocol import RESULT, Options, Score
from wav2bold.trainables.superb.scoring import Scored, hearing, score_tasks
from wav2bold.trainables.superb.tasks import heard_together
from wav2bold.tuning.remembered import REASON
from wav2bold.tuning.superb_kept import TABLE, folder_of
from wav2bold.tuning.tracking import Tracker

RETRIES = 2
"""Of a task whose process died, as on a node that went away; it goes on from its checkpoint."""


@dataclass(frozen=True)
class Benchmark:
    """What is to be scored, and where. It has an experiment of its own in MLflow.

    data: folder of the data sets.  results: for all that comes of it.  max_gb: of stored means, and of frames
    as far as it goes; None for means alone.
    cpus, gpus: that one task of one encoder holds.
    """

    encoders: tuple[str, ...]
    tasks: tuple[str, ...]
    data: Path
    results: Path
    options: Options
    cpus: int = 1
    gpus: float = 0
    max_gb: float | None = None
    name: str = "superb"

    def folder(self, encoder: str) -> Path:
        """Where an encoder's scores are kept, by task."""
        return folder_of(self.results, encoder)


@dataclass(frozen=True)
class Benchmarked:
    """rows: of the table.  kept: how many were there already.  failed: (name, reason) of the others."""

    rows: list[Row]
    kept: int
    failed: tuple[tuple[str, str], ...]


def superb(
    benchmark: Benchmark, address: str | None = None, cpus: int | None = None, progress: Progress = silent
) -> Benchmarked:
    """Every encoder's scores in every task; what was scored before is not scored again.

    Each is logged to MLflow and written as it comes; the table at the end, as results.json and results.csv.
    Raises UserError, the first one, if there is no score at all.
    """
    tracker = Tracker(benchmark)
    places = [(encoder, task) for encoder in benchmark.encoders for task in benchmark.tasks]
    groups = [(encoder, group) for encoder in benchmark.encoders for group in heard_together(benchmark.tasks)]
    found: dict[tuple[str, str], Score] = {}
    failed: dict[tuple[str, str], Exception] = {}
    kept = 0
    told = {"tasks": " ".join(benchmark.tasks), "data": str(benchmark.data), **vars(benchmark.options)}
    parent = tracker.begin_run("superb", benchmark.name, told)
    status = "KILLED"
    try:
        with connected(address, cpus):
            task = ray.remote(_score).options(
                num_cpus=benchmark.cpus, num_gpus=benchmark.gpus, max_retries=RETRIES
            )
            waiting = {task.remote(benchmark, *group): group for group in groups}
            while waiting:
                ready, _ = ray.wait(list(waiting))
                for one in ready:
                    encoder, group = waiting.pop(one)
                    outcome = _outcome(one)
                    for name in group:
                        place = encoder, name
                        if isinstance(outcome, Exception):
                            failed[place] = outcome
                            _remember_failure(tracker, parent, place, outcome)
                        else:
                            found[place], was_kept = outcome[name]
                            kept += was_kept * (1 + len(found[place].beside))
                            if not was_kept:
                                _remember(tracker, parent, benchmark, place, found[place])
                    progress(f"{', '.join(group)} with {encoder}", len(found) + len(failed), len(places))
        status = "FAILED" if failed else "FINISHED"
    finally:
        tracker.end(parent, status)
    mistakes = [error for error in failed.values() if isinstance(error, UserError)]
    if mistakes and not found:
        raise mistakes[0]
    scores = {
        encoder: {task: found[encoder, task] for task in benchmark.tasks if (encoder, task) in found}
        for encoder in benchmark.encoders
    }
    rows = rows_of(scores)
    write_whole(benchmark.results / TABLE, as_json(rows))
    write_whole(benchmark.results / "results.csv", as_csv(rows))
    names = tuple(
        (f"{place[1]} with {place[0]}", _reason(failed[place])) for place in places if place in failed
    )
    return Benchmarked(rows, kept, names)


def _score(benchmark: Benchmark, encoder: str, group: tuple[str, ...]) -> Scored | UserError:
    """A Ray task: scores in one group, or the user's mistake that Ray would write its own lines about."""
    torch.set_num_threads(max(benchmark.cpus, 1))
    torch.set_flush_denormal(True)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        device = "cuda" if benchmark.gpus > 0 and torch.cuda.is_available() else "cpu"
        loaded = hearing(load_encoder(encoder, device, only_reads=True), benchmark.options.normalize_wav)
        store = ActivationStore(benchmark.results.resolve() / "activations", benchmark.max_gb)
        folder = benchmark.folder(encoder)
        return score_tasks(loaded, group, benchmark.data.resolve(), folder, store, benchmark.options)
    except UserError as error:
        return error


def _outcome(reference: Any) -> Scored | Exception:
    try:
        outcome: Scored | UserError = ray.get(reference)
    except ray.exceptions.RayError as error:
        return error
    return outcome


def _reason(error: Exception) -> str:
    """On one line: a user's mistake as it is, and of anything else the end of its traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:500]


def _remember(
    tracker: Tracker, parent: str, benchmark: Benchmark, place: tuple[str, str], score: Score
) -> None:
    encoder, task = place
    params = {"encoder": encoder, "task": task, **vars(benchmark.options)}
    params |= {f"deviation.{name}": said for name, said in score.deviations.items()}
    params |= {f"setting.{name}": value for name, value in score.settings.items()}
    params["chosen"] = score.chosen
    run_id = tracker.begin_run("superb score", f"{task} {encoder}", params, parent)
    metrics = {"score": score.value} | {f"weight.{layer}": float(w) for layer, w in enumerate(score.weights)}
    metrics |= {one.metric.replace(" ", "_"): one.value for one in score.beside}
    tracker.metrics(run_id, metrics, step=0)
    tracker.artifact(run_id, benchmark.folder(encoder) / task / RESULT)
    tracker.end(run_id)


def _remember_failure(tracker: Tracker, parent: str, place: tuple[str, str], error: Exception) -> None:
    encoder, task = place
    run_id = tracker.begin_run(
        "superb score", f"{task} {encoder}", {"encoder": encoder, "task": task}, parent
    )
    tracker.tags(run_id, {REASON: _reason(error)})
    tracker.end(run_id, "FAILED")


def superb_encoders(names: Sequence[str]) -> tuple[str, ...]:
    """Encoders' names as every process understands them: folders by their whole path."""
    return tuple(dict.fromkeys(str(Path(name).resolve()) if Path(name).is_dir() else name for name in names))
