"""What a refined encoder was made from, as its folder tells it; read without what computes."""

import json
from pathlib import Path
from typing import Any

ORIGIN = "refined.json"


def origin_of(folder: Path) -> dict[str, Any] | None:
    """What the refined encoder in `folder` was made from; None if there is none."""
    try:
        origin: dict[str, Any] = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["origin"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return origin
