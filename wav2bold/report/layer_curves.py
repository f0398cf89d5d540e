"""Curves over layers for a report: tasks that score every hidden state before and after refinement."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import ray
import torch

from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.splits import Stories
from wav2bold.errors import UserError
from wav2bold.evaluation.audience import Audience
from wav2bold.evaluation.layers import LayerScore, layer_scores
from wav2bold.progress import Progress
from wav2bold.trainables.checkpoint import origin_of
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.unfreezing import lowest_boundary
from wav2bold.tuning.workshop import activation_store, device_for, longest_history

FROZEN, REFINED = "frozen", "refined"
"""What the encoders are called in the scores."""


@dataclass(frozen=True)
class _Job:
    """One encoder whose layers are scored on some subjects.

    encoder: a folder or hub name.  folder: of the refined encoder whose configuration says how windows are
    heard.  intervals: as for `layer_scores`.
    """

    name: str
    encoder: str
    subjects: tuple[str, ...]
    folder: Path
    intervals: bool


def layer_curves(
    study: Study, stories: Stories, folders: Mapping[str, Path], progress: Progress
) -> tuple[LayerScore, ...]:
    """Scores of every hidden state of the study's encoder and of each refined one on its own subject.

    folders: of the refined encoders, by subject. The frozen encoder runs once for all who hear alike, and
    they share its decompositions. What lies below all that a refinement changed is the frozen encoder's, and
    so are its scores. Runs where Ray is connected. Raises what a task met of the user's mistakes.
    """
    alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for subject, folder in folders.items():
        hears = Configuration.load(folder / "config.yaml")
        alike[hears.history, hears.pooling].append(subject)
    # one subject's curve needs an interval of its own; several have Student's
    intervals = len(folders) == 1
    resources = {"num_cpus": study.search.cpus_per_trial, "num_gpus": study.search.gpus_per_trial}
    task = ray.remote(_scored).options(**resources)
    digest = ray.remote(_digest).options(**resources).remote(study)
    jobs = [_Job(FROZEN, study.encoder, tuple(some), folders[some[0]], intervals) for some in alike.values()]
    jobs += [_Job(REFINED, str(folder), (one,), folder, intervals) for one, folder in folders.items()]
    waiting = [task.remote(study, stories, job, None if job.name == FROZEN else digest) for job in jobs]
    found: list[LayerScore] = []
    for number, (job, reference) in enumerate(zip(jobs, waiting, strict=True), start=1):
        scores: list[LayerScore] | UserError = ray.get(reference)
        if isinstance(scores, UserError):
            raise scores
        if job.name == REFINED:
            own = {one.layer for one in scores}
            frozen = [one for one in found if one.encoder == FROZEN and one.subject in job.subjects]
            found += [replace(one, encoder=REFINED) for one in frozen if one.layer not in own]
        found += scores
        progress("scoring layers", number, len(waiting))
    return tuple(found)


def first_changed(encoder: Encoder, folder: Path, frozen: str) -> int:
    """The lowest hidden state that refinement can have changed; 0 if it came from another encoder.

    encoder: the refined one, from `folder`.  frozen: digest of the encoder that it is compared with.
    """
    origin = origin_of(folder)
    if origin is None or origin["encoder"] != frozen:
        return 0
    boundary = lowest_boundary(encoder, Configuration.load(folder / "config.yaml"))
    return boundary.layer + 1 if boundary.at == "layer" else 0


def _digest(study: Study) -> str | None:
    """A Ray task: the study's encoder's; None where it can't be loaded, which whoever scores it tells."""
    try:
        return load_encoder(study.encoder).digest
    except UserError:
        return None


def _scored(study: Study, stories: Stories, job: _Job, frozen: str | None) -> list[LayerScore] | UserError:
    """A Ray task: one encoder's layers, or the user's mistake that Ray would write its own lines about.

    frozen: digest of the encoder whose unchanged states are left out, as they are scored elsewhere.
    """
    torch.set_num_threads(max(int(study.search.cpus_per_trial), 1))
    torch.set_flush_denormal(True)
    try:
        encoder = load_encoder(job.encoder, device_for(study))
        return list(
            layer_scores(
                encoder,
                Audience(open_shards(study.shards), stories, job.subjects, longest_history(study)),
                activation_store(study),
                Configuration.load(job.folder / "config.yaml"),
                job.name,
                intervals=job.intervals,
                first=0 if frozen is None else first_changed(encoder, job.folder, frozen),
            )
        )
    except UserError as error:
        return error
