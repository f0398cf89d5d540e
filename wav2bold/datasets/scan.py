"""What reading a recording or a sound told, and the digests by which it is known again.

It is kept in the shard's metadata: a recording whose bytes and options are unchanged is digested the next
time, and not decoded again.
"""

import base64
import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.cleaning import confound_files
from wav2bold.datasets.regions import region_files
from wav2bold.datasets.runs import Run
from wav2bold.datasets.shards import SCHEMA_VERSION, content_digest
from wav2bold.datasets.writing import read_metadata
from wav2bold.errors import DataError, may_not_be_read
from wav2bold.places import Place

LATER = ("confounds_strategy", "compcor_components", "drop_last")
"""Options that came after the first shards: they enter a digest only where they are set."""


@dataclass(frozen=True)
class StoryScan:
    """key: digest of all that decides the story's shard.  digest: content address of its samples.

    doubts: what is odd about the sound, a phrase each.
    """

    inputs: Mapping[str, str]
    key: str
    digest: str
    seconds: float
    doubts: Sequence[str] = ()


@dataclass(frozen=True)
class RunScan:
    """What one recording holds.

    inputs: digest of every file read, by path.  key: digest of those, the recording's clock and the cleaning.
    candidates: voxels or vertices, within regions if there are any.
    grid: what must be alike in a subject's recordings.  packed: which candidates vary, `unpack` reads it.
    """

    inputs: Mapping[str, str]
    key: str
    volumes: int
    candidates: int
    grid: str
    packed: str


Scan = TypeVar("Scan", StoryScan, RunScan)


def story_key(audio: Path) -> tuple[dict[str, str], str]:
    """Digest of every file that a story's shard is made from, by path, and the key of a StoryScan."""
    inputs = {str(audio): file_digest(audio)}
    return inputs, content_digest("story", SCHEMA_VERSION, list(inputs.values()))


def run_key(run: Run, cleaning: Cleaning, targets: Targets) -> tuple[dict[str, str], str]:
    """The same for a recording's shard, and the key of a RunScan."""
    files = [*run.bold, *confound_files(run, cleaning), *([cleaning.mask] if cleaning.mask else [])]
    inputs = {str(path): file_digest(path) for path in [*files, *region_files(targets)]}
    parts = ["run", SCHEMA_VERSION, list(inputs.values()), _cleaning(cleaning), run.tr_s, run.onset_s]
    if targets.parcellation:
        parts.append([targets.rois, targets.average])
    if run.member:
        parts.append(run.member)
    return inputs, content_digest(*parts)


def shard_digest(scan: RunScan, keep: str, base: str) -> str:
    """Content address of a recording's shard.

    keep: the candidates of its targets.  base: those that were cleaned, of which the targets were chosen.
    Both as `pack` makes them.
    """
    return content_digest(scan.key, keep, *([base] if base != scan.packed else []))


def _cleaning(cleaning: Cleaning) -> dict[str, Any]:
    """The options of a recording's digest: without the mask, whose bytes are digested."""
    return {
        name: value
        for name, value in cleaning.model_dump(mode="json", exclude={"mask"}).items()
        if name not in LATER or value != Cleaning.model_fields[name].default
    }


def as_metadata(scan: StoryScan | RunScan) -> dict[str, Any]:
    """A scan as its shard remembers it: without paths, which may change while the bytes don't."""
    return {name: value for name, value in asdict(scan).items() if name != "inputs"}


def remembered(kind: type[Scan], inputs: Mapping[str, str], key: str, places: Iterable[Place]) -> Scan | None:
    """The scan of this key that a shard or a draft remembers, or None. inputs: of the files as they are."""
    for place in places:
        known = read_metadata(place).get("scan", {})
        if known.get("key") == key:
            return kind(**{**known, "inputs": inputs})
    return None


def file_digest(path: Path) -> str:
    """Content address of a file. Raises DataError if it isn't there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except PermissionError:
        raise may_not_be_read(path) from None
    except OSError as error:
        raise DataError(
            f"{path}: can't be read ({error.strerror})", "fetch it (DataLad: `datalad get`)"
        ) from None


def pack(keep: NDArray[np.bool_]) -> str:
    """A row of yes and no as text."""
    return base64.b64encode(zlib.compress(np.packbits(keep).tobytes())).decode()


def unpack(packed: str, length: int) -> NDArray[np.bool_]:
    """What `pack` made."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)
    return np.unpackbits(bits, count=length).astype(bool)


def exact(seconds: float) -> Fraction:
    """The number as it was written: 0.1 s is a tenth, not the binary number nearest to it."""
    return Fraction(str(seconds))
