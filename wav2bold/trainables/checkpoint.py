"""A refined encoder on disk: a Hugging Face folder with its head, scores and configuration."""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from wav2bold.config import Configuration
from wav2bold.errors import DataError
from wav2bold.trainables.changes import changes
from wav2bold.trainables.encoder import Encoder, load_encoder, save_encoder
from wav2bold.trainables.origin import ORIGIN, origin_of
from wav2bold.trainables.reading import states_read
from wav2bold.trainables.refine import Refined
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.scores import Report


@dataclass(frozen=True)
class Kept:
    """A refined encoder as read back.

    origin: what it was made from, as given to `save_refined`.  layer_weights: as in `Refined`.
    people: (V,) whose each target was that it was refined for.
    """

    encoder: Encoder
    head: Head
    configuration: Configuration
    origin: dict[str, Any]
    people: NDArray[np.str_]
    layer_weights: NDArray[np.float32] | None = None

    def columns_of(self, subject: str) -> NDArray[np.int64]:
        """Which of the head's targets are this subject's. Raises DataError if it has none for them."""
        if self.configuration.head == "shared":
            return np.arange(self.head.weight.shape[1])
        columns = np.flatnonzero(self.people == subject)
        if not len(columns):
            others = ", ".join(dict.fromkeys(self.people.tolist()))
            raise DataError(
                f"{subject}: the head was refined for {others}",
                "evaluate those, or refine for this subject",
            )
        return columns


def save_refined(
    folder: Path,
    refined: Refined,
    encoder: Encoder,
    targets: pa.Table,
    reports: list[Report],
    origin: dict[str, Any],
) -> None:
    """Write `folder` whole or not at all, in place of an older one.

    It holds the encoder and feature extractor as `from_pretrained` loads them, `head.safetensors`,
    `scores.parquet` (per target: whose, its number there, r on validation before and after, noise ceiling,
    alpha), `changes.parquet` (how far each parameter type moved in each layer, see `changes`), `config.yaml`
    and `refined.json` (origin, epoch, validation scores of each epoch, weights of the hidden states where the
    head sums them).
    targets: as `targets_of` gives them.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_encoder(partial, refined.model, encoder.extractor)
    head = refined.head
    save_file(
        {key: np.ascontiguousarray(value) for key, value in vars(head).items()},
        partial / "head.safetensors",
    )
    table = pa.table(
        {
            "subject": targets["subject"],
            "target": targets["target"],
            "r_before": reports[0].scores.astype(np.float32),
            "r_after": reports[refined.epoch].scores.astype(np.float32),
            "ceiling": targets["ceiling"],
            "alpha": np.tile(head.alpha, len(targets) // len(head.alpha)),  # a shared head's are everybody's
        }
    )
    pq.write_table(table, partial / "scores.parquet")
    pq.write_table(changes(encoder.model, refined.model), partial / "changes.parquet")
    refined.configuration.save(
        partial / "config.yaml", "The configuration that this encoder was refined with"
    )
    epochs = [
        {"epoch": report.epoch, "loss": _number(report.loss), "score": _number(report.score)}
        for report in reports
    ]
    told = {"origin": origin, "epoch": refined.epoch, "score": _number(refined.score), "epochs": epochs}
    if refined.layer_weights is not None:
        told["layer_weights"] = refined.layer_weights.tolist()
    text = json.dumps(told, indent=1, allow_nan=False)
    (partial / ORIGIN).write_text(text, encoding="utf-8")
    for path in partial.glob("*.safetensors"):
        path.chmod((partial / ORIGIN).stat().st_mode)  # safetensors lets nobody else read what it writes
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)  # removing it takes time, in which there would be neither
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _number(value: float) -> float | None:
    """What JSON has for it: null for NaN."""
    return value if math.isfinite(value) else None


def load_refined(folder: Path, device: torch.device | str = "cpu") -> Kept:
    """A refined encoder with its head. Raises DataError if the folder doesn't hold one, or a damaged one."""
    origin = origin_of(folder)
    if origin is None:
        raise DataError(f"{folder}: holds no refined encoder", "run `wav2bold refine` first")
    path = folder / "head.safetensors"
    try:
        arrays: dict[str, NDArray[np.float32]] = load_file(path)
        head = Head(**arrays)
        path = folder / "scores.parquet"
        people = np.array(pq.read_table(path, columns=["subject"])["subject"].to_pylist())
    except (OSError, SafetensorError, TypeError, pa.ArrowInvalid, KeyError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"{path}: can't be read ({said})", "run `wav2bold refine` again") from None
    encoder = load_encoder(str(folder), str(device))
    configuration = Configuration.load(folder / "config.yaml")
    weights = _layer_weights(folder, encoder, configuration)
    return Kept(encoder, head, configuration, origin, people, weights)


def _layer_weights(
    folder: Path, encoder: Encoder, configuration: Configuration
) -> NDArray[np.float32] | None:
    """Weights of the hidden states, as `save_refined` wrote them; None where none are summed."""
    if configuration.layers != "weighted":
        return None
    path = folder / ORIGIN
    told = json.loads(path.read_text(encoding="utf-8")).get("layer_weights", [])
    if len(told) != len(states_read(encoder, configuration.layers)):
        raise DataError(f"{path}: holds {len(told)} layer_weights", "run `wav2bold refine` again")
    return np.asarray(told, np.float32)
