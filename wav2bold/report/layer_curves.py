"""Curves over layers for a report: every hidden state scored before and after refinement."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.splits import Stories
from wav2bold.evaluation.evaluated import LayerScore
from wav2bold.progress import Progress, silent
from wav2bold.tuning.apart import worked_apart

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
    jobs = [_Job(FROZEN, study.encoder, tuple(some), folders[some[0]], intervals) for some in alike.values()]
    jobs += [_Job(REFINED, str(folder), (one,), folder, intervals) for one, folder in folders.items()]
    (digest,) = worked_apart(study, _digest, [()], ["reading the encoder"], silent)
    pieces = [(stories, job, None if job.name == FROZEN else digest) for job in jobs]
    every = worked_apart(study, _scored, pieces, ["scoring layers"] * len(jobs), progress)
    found: list[LayerScore] = []
    for job, scores in zip(jobs, every, strict=True):
        if job.name == REFINED:
            own = {one.layer for one in scores}
            frozen = [one for one in found if one.encoder == FROZEN and one.subject in job.subjects]
            found += [replace(one, encoder=REFINED) for one in frozen if one.layer not in own]
        found += scores
    return tuple(found)


def _digest(study: Study) -> str:
    """The study's encoder's."""
    from wav2bold.trainables.encoder import load_encoder

    return load_encoder(study.encoder).digest


def _scored(study: Study, stories: Stories, job: _Job, frozen: str | None) -> list[LayerScore]:
    """One encoder's layers. frozen: digest of the encoder whose unchanged states are left out."""
    from wav2bold.evaluation.audience import Audience
    from wav2bold.evaluation.layers import first_changed, layer_scores
    from wav2bold.trainables.encoder import load_encoder
    from wav2bold.tuning.workshop import activation_store, device_for, longest_history

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
