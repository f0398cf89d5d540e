"""Where a refinement is after an epoch, on disk: one that was killed goes on from there to the same numbers.

A checkpoint is a folder with one safetensors file, its JSON in that file's metadata. It holds what training
has changed: the unfrozen parameters or adapters, now and as they were in the best epoch; the head, now and
then; what the optimisers remember; where BOLD was filtered, every window's features as they were last heard
(N x P, beside which the rest may be small); the steps done; every epoch's report; and the noise of stage 1.
Of the frozen part it holds nothing. It is safe to delete at any time: the refinement then begins anew.
"""

# N windows, P head features, V targets, E epochs so far

import hashlib
import json
import logging
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wav2bold.config import Configuration
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.windows import Windows
from wav2bold.errors import StorageError
from wav2bold.places import written
from wav2bold.trainables.encoder import Encoder
from wav2bold.trainables.noise import NoiseModel
from wav2bold.trainables.reduced import Factors
from wav2bold.trainables.ridge import Head
from wav2bold.trainables.scores import Report

log = logging.getLogger(__name__)

FORMAT = 2
"""Of checkpoints: another one is not read."""
FILE = "epoch.safetensors"
PARAMETERS = "parameters."
"""In stage 2's state, before the names of trained parameters."""
NUMBERS = ("loss", "score", "white_score", "seconds", "drift")
LIBRARIES = ("wav2bold", "torch", "transformers", "peft", "numpy", "scipy")
"""Another version of these may give other numbers."""


@dataclass(frozen=True)
class Place:
    """Where a refinement is after an epoch.

    reports: of all epochs so far, from 0 on.  noise: of stage 1.  head: as it is now.
    training: as `Stage2.state` gives it; empty after epoch 0.  best_epoch: the one that is kept, as
    `Refined` says: that whose score is best, or the last.
    best_head, best_parameters: the head and the trained parameters after it, the latter empty for epoch 0.
    best_weights: of the hidden states then, None where they aren't summed.
    factors: that stage 2 begins with, as in `TorchHead`.
    """

    reports: tuple[Report, ...]
    noise: NoiseModel
    head: Head
    best_epoch: int
    best_head: Head
    best_parameters: Mapping[str, Tensor] = field(default_factory=dict)
    training: Mapping[str, Tensor] = field(default_factory=dict)
    best_weights: NDArray[np.float32] | None = None
    factors: Factors | None = None

    def after(
        self,
        report: Report,
        head: Head,
        weights: NDArray[np.float32] | None,
        training: Mapping[str, Tensor],
        *,
        is_best: bool,
    ) -> "Place":
        """The place one epoch later. is_best: whether it is the one to keep so far."""
        later = replace(self, reports=(*self.reports, report), head=head, training=training)
        if not is_best:
            return later
        parameters = {name: value.cpu().clone() for name, value in part_of(training, PARAMETERS).items()}
        return replace(
            later,
            best_epoch=report.epoch,
            best_head=head,
            best_parameters=parameters,
            best_weights=weights,
        )


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of a state whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def identity_of(
    encoder: Encoder,
    shards: Shards,
    stored: str,
    heard: Sequence[Windows],
    configuration: Configuration,
    seed: int,
) -> dict[str, Any]:
    """All that a refinement's numbers depend on, by which its checkpoint is known again.

    stored: the type of stored activations.  heard: the windows to train and to validate on.
    """
    windows = hashlib.blake2b(digest_size=16)
    for one in heard:
        for part in (one.story, one.stop, one.subject):
            windows.update(f"{part.dtype} {part.shape}".encode() + part.tobytes())
    return {
        "format": FORMAT,
        "encoder": encoder.digest,
        "dataset": shards.card.digest,
        "windows": windows.hexdigest(),
        "activations": stored,
        "configuration": configuration.digest,
        "seed": seed,
        "versions": {name: _version(name) for name in LIBRARIES},
    }


@dataclass(frozen=True)
class Checkpoint:
    """A folder for the place of one refinement. identity: as `identity_of` gives it."""

    folder: Path
    identity: Mapping[str, Any]

    def save(self, place: Place) -> None:
        """Write a place whole or not at all, in place of an older one.

        It isn't seen onto the disk: a machine that loses its power may lose it.
        Raises StorageError if it can't be written.
        """
        told = {
            "identity": self.identity,
            "best_epoch": place.best_epoch,
            "reports": [_told(report) for report in place.reports],
        }
        text = json.dumps(told, allow_nan=False)
        tensors = {name: value.detach().cpu().contiguous() for name, value in _tensors(place).items()}
        path = self.folder / FILE
        partial = path.with_name(f".{FILE}.partial")
        with written(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                save_file(tensors, partial, {"place": text, "crc32": _checksum(text, tensors)})
            except SafetensorError as error:  # also for what a disk says
                raise StorageError(
                    f"{path}: can't be written ({error})", "make room there, or choose another folder"
                ) from None
            partial.replace(path)

    def load(self) -> Place | None:
        """Where the refinement was; None if there is no checkpoint, or none that can be used.

        A damaged one and that of another refinement are told of in the log; the next `save` replaces them.
        """
        path = self.folder / FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                text, checksum = (file.metadata()[key] for key in ("place", "crc32"))
                # copies: what is mapped would die with the file, which the next epoch replaces
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            if checksum != _checksum(text, tensors):
                raise ValueError("its checksum differs")
            told = json.loads(text)
            known, ours = told["identity"], self.identity
            others = sorted(key for key in known.keys() | ours.keys() if known.get(key) != ours.get(key))
            if not others:
                return _place(told, tensors)
            why = f"the checkpoint was made with other {', '.join(others)}"
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
            why = f"the checkpoint is damaged ({' '.join(str(error).split())})"
        log.warning("%s: %s; the refinement begins anew", path, why)
        return None


def _tensors(place: Place) -> dict[str, Tensor]:
    """All arrays of a place by name. What the best epoch left is told once if that is the last one."""
    arrays = {f"head.{name}": value for name, value in vars(place.head).items()}
    arrays |= {f"noise.{name}": getattr(place.noise, name) for name in ("correlation", "coefficients")}
    arrays["scores"] = np.stack([report.scores for report in place.reports])
    arrays |= {f"factors.{number}": value for number, value in enumerate(place.factors or ())}
    if place.best_weights is not None:
        arrays["best_weights"] = place.best_weights
    found = {f"training.{name}": value for name, value in place.training.items()}
    if place.best_epoch != place.reports[-1].epoch:
        arrays |= {f"best.head.{name}": getattr(place.best_head, name) for name in ("weight", "bias")}
        found |= {f"best.{PARAMETERS}{name}": value for name, value in place.best_parameters.items()}
    return found | {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


def _place(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Place:
    reports = tuple(
        Report(**(one | {key: math.nan for key in NUMBERS if one[key] is None}), scores=scores.numpy())
        for one, scores in zip(told["reports"], tensors["scores"], strict=True)
    )
    head = Head(**{name: value.numpy() for name, value in part_of(tensors, "head.").items()})
    training = part_of(tensors, "training.")
    best = {name: value.numpy() for name, value in part_of(tensors, "best.head.").items()}
    is_last = told["best_epoch"] == reports[-1].epoch
    parameters = part_of(training, PARAMETERS) if is_last else part_of(tensors, f"best.{PARAMETERS}")
    return Place(
        reports,
        NoiseModel(tensors["noise.correlation"].numpy(), tensors["noise.coefficients"].numpy()),
        head,
        told["best_epoch"],
        replace(head, **best),
        {name: value.clone() for name, value in parameters.items()},
        training,
        tensors["best_weights"].numpy() if "best_weights" in tensors else None,
        (tensors["factors.0"].numpy(), tensors["factors.1"].numpy()) if "factors.0" in tensors else None,
    )


def _told(report: Report) -> dict[str, Any]:
    """A report as JSON has it, without its targets' scores: null for NaN. Floats are written exactly."""
    told = {name: value for name, value in vars(report).items() if name != "scores"}
    return told | {name: None for name in NUMBERS if not math.isfinite(told[name])}


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Of the JSON, and of every tensor's name, type, shape and bytes."""
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        crc = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(value.numpy()).data, crc)
    return f"{crc:08x}"


def _version(library: str) -> str:
    try:
        return version(library)
    except ModuleNotFoundError:
        return "unknown"  # ours, where it runs from its source
