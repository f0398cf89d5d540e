"""The card of a folder of shards, `dataset.json`: what the shards hold and what they were made from."""

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.datasets.shards import (
    SCHEMA_VERSION,
    DatasetCard,
    StoryCard,
    SubjectCard,
    content_digest,
    open_shards,
)
from wav2bold.datasets.targets import target_ids
from wav2bold.datasets.wanted import Scanned
from wav2bold.errors import DataError
from wav2bold.places import Place

LIBRARIES = ("wav2bold", "h5py", "nibabel", "nilearn", "numpy", "pyarrow", "scipy", "soundfile", "soxr")


def make_card(
    scanned: Scanned, kept: Mapping[str, NDArray[np.bool_]], digests: Iterable[tuple[str, str]]
) -> DatasetCard:
    """The card of the shards made from what was scanned.

    kept: (candidates,) bool for each subject, those of its targets.
    digests: name of each shard, and the digest of what it is made from, in order.
    """
    runs, scans, stories, cleaning = scanned.runs, scanned.scans, scanned.stories, scanned.cleaning
    volumes: dict[str, dict[str, list[int]]] = {subject: {} for subject in kept}
    for run, scan in sorted(zip(runs, scans, strict=True), key=lambda pair: pair[0].repeat):
        volumes[run.subject].setdefault(run.story, []).append(
            scan.volumes - cleaning.drop_first - cleaning.drop_last
        )
    return DatasetCard(
        tr_s=runs[0].tr_s,
        space=runs[0].space,
        subjects={
            name: SubjectCard(
                len(target_ids(keep, scanned.regions)),
                {story: len(each) for story, each in volumes[name].items()},
                volumes[name],
            )
            for name, keep in kept.items()
        },
        stories={name: StoryCard(scan.seconds, scan.digest) for name, scan in stories.items()},
        cleaning=cleaning.model_dump(mode="json"),
        targets=scanned.targets.model_dump(mode="json"),
        name=_name(scanned.recordings),
        inputs=_inputs(scanned),
        libraries={name: _version(name) for name in LIBRARIES},
        digest=content_digest(SCHEMA_VERSION, runs[0].tr_s, runs[0].space, list(digests)),
    )


def has_card(out: Place, card: DatasetCard) -> bool:
    """Whether the card that is there says the same of the same shards, by whichever versions of libraries."""
    try:
        known = open_shards(out).card
    except DataError:
        return False
    return (known.digest, known.subjects) == (card.digest, card.subjects)


def _inputs(scanned: Scanned) -> dict[str, str]:
    """Digest of every file that was read, by its path within the recordings."""
    recordings = scanned.recordings
    root = recordings if recordings.is_dir() else recordings.parent  # of a manifest
    inputs = {}
    found = [*(scan.inputs for scan in scanned.stories.values()), *(scan.inputs for scan in scanned.scans)]
    for read in found:
        for name, digest in read.items():
            path = Path(name)
            within = path.is_relative_to(root)
            inputs[path.relative_to(root).as_posix() if within else name] = digest
    return inputs


def _name(recordings: Path) -> str:
    """What the recordings call themselves in BIDS' own `dataset_description.json`; "" if they don't."""
    try:
        said = json.loads((recordings / "dataset_description.json").read_text(encoding="utf-8"))
        return str(said.get("Name", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _version(library: str) -> str:
    try:
        return version(library)
    except ModuleNotFoundError:
        return "unknown"
