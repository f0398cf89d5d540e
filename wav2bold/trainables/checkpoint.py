"""A refined encoder on disk: a Hugging Face folder with its head, scores and configuration."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from wav2bold.config import Configuration
from wav2bold.errors import DataError
from wav2bold.trainables.encoder import Encoder, load_encoder, save_encoder
from wav2bold.trainables.refine import Refined, Report
from wav2bold.trainables.ridge import Head

ORIGIN = "refined.json"


@dataclass(frozen=True)
class Kept:
    """A refined encoder as read back. origin: what it was made from, as given to `save_refined`."""

    encoder: Encoder
    head: Head
    configuration: Configuration
    origin: dict[str, Any]


def save_refined(
    folder: Path, refined: Refined, encoder: Encoder, reports: list[Report], origin: dict[str, Any]
) -> None:
    """Write `folder` whole or not at all, in place of an older one.

    It holds the encoder and feature extractor as `from_pretrained` loads them, `head.safetensors`,
    `scores.parquet` (per target: r on validation before and after, alpha), `config.yaml` and
    `refined.json` (origin, epoch, validation scores of each epoch).
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
            "target": np.arange(len(head.bias), dtype=np.int32),
            "r_before": reports[0].scores.astype(np.float32),
            "r_after": reports[refined.epoch].scores.astype(np.float32),
            "alpha": head.alpha,
        }
    )
    pq.write_table(table, partial / "scores.parquet")
    refined.configuration.save(
        partial / "config.yaml", "The configuration that this encoder was refined with"
    )
    epochs = [{"epoch": report.epoch, "loss": report.loss, "score": report.score} for report in reports]
    text = json.dumps(
        {"origin": origin, "epoch": refined.epoch, "score": refined.score, "epochs": epochs}, indent=1
    )
    (partial / ORIGIN).write_text(text, encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def origin_of(folder: Path) -> dict[str, Any] | None:
    """What the refined encoder in `folder` was made from; None if there is none."""
    try:
        origin: dict[str, Any] = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["origin"]
    except (OSError, ValueError, KeyError):
        return None
    return origin


def load_refined(folder: Path) -> Kept:
    """A refined encoder with its head. Raises DataError if the folder doesn't hold one."""
    origin = origin_of(folder)
    if origin is None:
        raise DataError(f"{folder}: holds no refined encoder", "run `wav2bold refine` first")
    arrays: dict[str, NDArray[np.float32]] = load_file(folder / "head.safetensors")
    return Kept(load_encoder(str(folder)), Head(**arrays), Configuration.load(folder / "config.yaml"), origin)
