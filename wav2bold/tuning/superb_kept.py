"""SUPERB's scores in a results folder; read without what computes them."""

import json
from pathlib import Path

from wav2bold.errors import DataError
from wav2bold.options import short_digest
from wav2bold.trainables.superb.protocol import RESULT, Score, score_from

TABLE = "results.json"


def superb_scores(results: Path) -> dict[str, dict[str, Score]]:
    """Scores of the table in a results folder, by encoder, the one compared with first, and by task.

    Raises DataError where there is none, or not all that it told of is there still.
    """
    try:
        told = json.loads((results / TABLE).read_text(encoding="utf-8"))
        places = [(str(one["encoder"]), str(one["task"])) for one in told]
        found: dict[str, dict[str, Score]] = {encoder: {} for encoder, _ in places}
        for encoder, task in places:
            text = (folder_of(results, encoder) / task / RESULT).read_text(encoding="utf-8")
            found[encoder][task] = score_from(json.loads(text)["score"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{results}: can't be read as scores of SUPERB ({' '.join(str(error).split())})",
            "give the --out folder of wav2bold superb, and run that again if need be",
        ) from None
    return found


def folder_of(results: Path, encoder: str) -> Path:
    """Where an encoder's scores are kept, by task."""
    word = "".join(sign if sign.isalnum() else "-" for sign in encoder).strip("-")
    return results.resolve() / "scores" / f"{word[-40:]}-{short_digest(encoder)[:6]}"
