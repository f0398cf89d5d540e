"""Refined encoders on the test stories, a Ray task each."""

from collections.abc import Mapping
from pathlib import Path

from wav2bold.config import Study
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.splits import Stories
from wav2bold.evaluation.evaluated import Evaluation
from wav2bold.progress import Progress
from wav2bold.tuning.apart import worked_apart


def evaluations(
    study: Study,
    stories: Stories,
    folders: Mapping[str, Mapping[str, Path]],
    progress: Progress,
) -> dict[str, dict[str, Evaluation]]:
    """Of all refined encoders, by kind and subject. folders: likewise."""
    places = [(kind, subject, folder) for kind, found in folders.items() for subject, folder in found.items()]
    pieces = [(stories, subject, folder) for _, subject, folder in places]
    names = [f"testing {subject}" for _, subject, _ in places]
    tested = worked_apart(study, _evaluate, pieces, names, progress)
    found: dict[str, dict[str, Evaluation]] = {kind: {} for kind in folders}
    for (kind, subject, _), one in zip(places, tested, strict=True):
        found[kind][subject] = one
    return {kind: dict(sorted(some.items())) for kind, some in found.items()}


def _evaluate(study: Study, stories: Stories, subject: str, folder: Path) -> Evaluation:
    """One subject's scores."""
    from wav2bold.evaluation.evaluate import evaluate
    from wav2bold.trainables.encoder import load_encoder
    from wav2bold.tuning.workshop import activation_store, device_for, longest_history

    return evaluate(
        load_encoder(study.encoder, device_for(study)),
        open_shards(study.shards),
        activation_store(study),
        stories,
        subject,
        folder,
        longest_history(study),
    )
