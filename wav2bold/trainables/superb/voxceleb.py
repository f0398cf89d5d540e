"""VoxCeleb1 as it unpacks: recordings named `speaker/video/number.wav`, in two halves."""

from pathlib import Path

from wav2bold.datasets.files import is_there
from wav2bold.errors import DataError

FOLDER = "VoxCeleb1"
META = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta"
HALVES = ("dev", "test")


def recording(root: Path, name: str) -> Path:
    """A list's file, in whichever half it is. Raises DataError where it isn't in any."""
    for half in HALVES:
        path = root / half / "wav" / name
        if is_there(path):
            return path
    raise DataError(f"{root}: neither dev/wav nor test/wav has {name}", "unpack all of VoxCeleb1 there")


def speaker_of(name: str) -> str:
    """The speaker in a recording's name."""
    return name.partition("/")[0]
