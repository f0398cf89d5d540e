"""Look through recordings before anything is written: digests, what varies, what is wrong.

A scan reads a whole file, since only then does damage show. What it found is kept in the shard's metadata, so
that a recording whose bytes and options are unchanged is digested the next time, and not decoded again.
"""

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.audio import SAMPLE_RATE_HZ, read_story
from wav2bold.datasets.bold import grid, read_bold, varying
from wav2bold.datasets.cleaning import clean, confound_files, read_confounds, steady
from wav2bold.datasets.regions import read_regions, region_files
from wav2bold.datasets.runs import Run
from wav2bold.datasets.shards import SCHEMA_VERSION, content_digest
from wav2bold.datasets.targets import to_candidates
from wav2bold.datasets.writing import read_metadata
from wav2bold.errors import DataError
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


def scan_story(audio: Path, shard: Place) -> StoryScan:
    """Read a story's sound, unless the shard that was made of it says what it holds.

    Raises DataError if the sound can't be read, or is silent throughout.
    """
    inputs = {str(audio): file_digest(audio)}
    key = content_digest("story", SCHEMA_VERSION, list(inputs.values()))
    known = read_metadata(shard).get("scan", {})
    if known.get("key") == key:
        return StoryScan(inputs, key, known["digest"], known["seconds"], known.get("doubts", ()))
    sound = read_story(audio)
    digest = hashlib.blake2b(sound.samples.tobytes(), digest_size=16).hexdigest()
    return StoryScan(inputs, key, digest, len(sound.samples) / SAMPLE_RATE_HZ, sound.doubts)


def scan_run(run: Run, cleaning: Cleaning, targets: Targets, shard: Place) -> RunScan:
    """Read a recording and try its cleaning on one target, unless its shard says what it holds.

    Raises DataError if a file is damaged, the recording ends before its story begins, no target varies, or
    cleaning would leave nothing.
    """
    files = [*run.bold, *confound_files(run, cleaning), *([cleaning.mask] if cleaning.mask else [])]
    inputs = {str(path): file_digest(path) for path in [*files, *region_files(targets)]}
    parts = ["run", SCHEMA_VERSION, list(inputs.values()), _cleaning(cleaning), run.tr_s, run.onset_s]
    if targets.parcellation:
        parts.append([targets.rois, targets.average])
    if run.member:
        parts.append(run.member)
    key = content_digest(*parts)
    known = read_metadata(shard).get("scan", {})
    if known.get("key") == key:
        return RunScan(**{**known, "inputs": inputs})
    y = read_bold(run, cleaning.mask)
    if len(y) * run.tr_s <= run.onset_s:
        raise DataError(
            f"{run.bold[0]}: BOLD ends at {len(y) * run.tr_s:g} s, {run.story} begins at {run.onset_s:g} s",
            f"check onset in the events file of {run.name}",
        )
    y = to_candidates(y, read_regions(run, cleaning.mask, targets, y.shape[1]))
    kept = y[steady(len(y), cleaning)]
    keep = varying(kept) if len(kept) else np.zeros(y.shape[1], bool)
    if not keep.any():
        raise DataError(
            f"{run.bold[0]}: no target varies", "check that the file, or the mask, is the right one"
        )
    sample = int(np.flatnonzero(keep)[0])
    clean_run(run, y[:, sample : sample + 1], cleaning)
    return RunScan(inputs, key, len(y), y.shape[1], grid(run, y.shape[1]), pack(keep))


def clean_run(run: Run, y: NDArray[np.float32], cleaning: Cleaning) -> NDArray[np.float32]:
    """`clean` with the run's own confounds, and its file's name on what goes wrong."""
    confounds = read_confounds(run, cleaning, len(y))
    try:
        return clean(y, run.tr_s, cleaning, confounds)
    except DataError as error:
        raise DataError(f"{run.bold[0]}: {error.what}", error.cure) from None


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


def file_digest(path: Path) -> str:
    """Content address of a file. Raises DataError if it isn't there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
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
