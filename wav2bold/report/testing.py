"""Refined encoders on the test stories, a Ray task each.

Apart from what asks MLflow: a worker imports this, and a tenth of a gigabyte less.
"""

from collections.abc import Mapping
from pathlib import Path

import ray
import torch

from wav2bold.config import Study
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.splits import Stories
from wav2bold.errors import UserError
from wav2bold.evaluation.evaluate import Evaluation, evaluate
from wav2bold.progress import Progress
from wav2bold.trainables.encoder import load_encoder
from wav2bold.tuning.workshop import activation_store, device_for, longest_history


def evaluations(
    study: Study,
    stories: Stories,
    folders: Mapping[str, Mapping[str, Path]],
    progress: Progress,
) -> dict[str, dict[str, Evaluation]]:
    """Of all refined encoders, by kind and subject. folders: likewise."""
    places = [(kind, subject, folder) for kind, found in folders.items() for subject, folder in found.items()]
    evaluations: dict[str, dict[str, Evaluation]] = {kind: {} for kind in folders}
    task = ray.remote(_evaluate).options(
        num_cpus=study.search.cpus_per_trial, num_gpus=study.search.gpus_per_trial
    )
    waiting = {task.remote(study, stories, subject, folder): kind for kind, subject, folder in places}
    while waiting:
        ready, _ = ray.wait(list(waiting))
        for one in ready:
            evaluation: Evaluation | UserError = ray.get(one)
            if isinstance(evaluation, UserError):
                raise evaluation
            evaluations[waiting.pop(one)][evaluation.subject] = evaluation
            progress(f"testing {evaluation.subject}", len(places) - len(waiting), len(places))
    return {kind: dict(sorted(found.items())) for kind, found in evaluations.items()}


def _evaluate(study: Study, stories: Stories, subject: str, folder: Path) -> Evaluation | UserError:
    """A Ray task: one subject's scores, or the user's mistake that Ray would write its own lines about."""
    torch.set_num_threads(max(int(study.search.cpus_per_trial), 1))
    torch.set_flush_denormal(True)
    try:
        return evaluate(
            load_encoder(study.encoder, device_for(study)),
            open_shards(study.shards),
            activation_store(study),
            stories,
            subject,
            folder,
            longest_history(study),
        )
    except UserError as error:
        return error
