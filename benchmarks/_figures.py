"""How a benchmark prints what it measured."""

import json
import statistics
from collections.abc import Sequence


def show(name: str, values: Sequence[float], unit: str) -> None:
    """Print the median of what was measured several times, with its spread, as a JSON line."""
    figure = {
        "figure": name,
        "value": round(statistics.median(values), 3),
        "unit": unit,
        "n": len(values),
        "spread": round(max(values) - min(values), 3),
    }
    print(json.dumps(figure), flush=True)
