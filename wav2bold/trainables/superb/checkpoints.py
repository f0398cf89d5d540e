"""Where training is, on disk: a file of tensors that tells what it is of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from wav2bold.options import write_whole


def keep(path: Path, identity: Mapping[str, Any], tensors: Mapping[str, Tensor], told: Any) -> None:
    """Write tensors, whole or not at all, and what is told of them, JSON-like.

    identity: all that the training depends on, JSON-like, by which it is known again.
    """
    # cloned: safetensors refuses tensors that share memory
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_whole(path, save(whole, {"identity": _line(identity), "told": json.dumps(told)}))


def kept(path: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], Any] | None:
    """What `keep` wrote, on the processor; None if it is absent, damaged, or of another identity."""
    try:
        with safe_open(path, "pt") as file:
            place = file.metadata()
            if place.get("identity") != _line(identity) or "told" not in place:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except (OSError, SafetensorError):
        return None
    return tensors, json.loads(place["told"])


def _line(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)
