"""What an undisturbed `prepare` writes, for suites that disturb it."""

from collections.abc import Sequence
from pathlib import Path

from stores import contents

from wav2bold.config import Cleaning
from wav2bold.datasets.prepare import prepare


def undisturbed_bytes(
    recordings: Path, folder: Path, cleanings: Sequence[Cleaning]
) -> dict[Cleaning, dict[str, bytes]]:
    """Every file with its bytes, by cleaning. folder: where the shards are written."""
    made = {}
    for number, cleaning in enumerate(cleanings):
        shards = folder / str(number) / "shards"
        prepare(recordings, shards, cleaning)
        made[cleaning] = contents(shards)
    return made
