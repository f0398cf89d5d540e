"""The card that shards come with: what is in them, and what they were made from."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.regions import Regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import RunScan, StoryScan
from wav2bold.datasets.shards import (
    SCHEMA_VERSION,
    DatasetCard,
    StoryCard,
    SubjectCard,
    content_digest,
    open_shards,
)
from wav2bold.datasets.targets import target_ids
from wav2bold.errors import DataError

LIBRARIES = ("wav2bold", "h5py", "nibabel", "nilearn", "numpy", "pyarrow", "scipy", "soundfile", "soxr")


def make_card(
    recordings: Path,
    runs: Sequence[Run],
    stories: Mapping[str, StoryScan],
    scans: Sequence[RunScan],
    kept: Mapping[str, NDArray[np.bool_]],
    regions: Regions | None,
    cleaning: Cleaning,
    targets: Targets,
    identities: Sequence[tuple[str, str]],
) -> DatasetCard:
    """The card of shards that were made, or will be.

    recordings: the folder or manifest they come from.  scans: of each run.  kept: (candidates,) bool for each
    subject.  identities: name and digest of every shard.
    """
    volumes: dict[str, dict[str, list[int]]] = {subject: {} for subject in kept}
    for run, scanned in sorted(zip(runs, scans, strict=True), key=lambda pair: pair[0].repeat):
        volumes[run.subject].setdefault(run.story, []).append(
            scanned.volumes - cleaning.drop_first - cleaning.drop_last
        )
    inputs: dict[str, str] = {}
    root = recordings if recordings.is_dir() else recordings.parent  # of a manifest
    found = [*(scan.inputs for scan in stories.values()), *(scan.inputs for scan in scans)]
    for read in found:
        for name, digest in read.items():
            path = Path(name)
            within = path.is_relative_to(root)
            inputs[path.relative_to(root).as_posix() if within else name] = digest
    return DatasetCard(
        tr_s=runs[0].tr_s,
        space=runs[0].space,
        subjects={
            name: SubjectCard(
                len(target_ids(keep, regions)),
                {story: len(each) for story, each in volumes[name].items()},
                volumes[name],
            )
            for name, keep in kept.items()
        },
        stories={name: StoryCard(scan.seconds, scan.digest) for name, scan in stories.items()},
        cleaning=cleaning.model_dump(mode="json"),
        targets=targets.model_dump(mode="json"),
        name=_name(recordings),
        inputs=inputs,
        libraries={name: _version(name) for name in LIBRARIES},
        digest=content_digest(SCHEMA_VERSION, runs[0].tr_s, runs[0].space, identities),
    )


def has_card(out: Path, card: DatasetCard) -> bool:
    """Whether the card on disk says the same of the same shards, by whichever versions of libraries."""
    try:
        known = open_shards(out).card
    except DataError:
        return False
    return (known.digest, known.subjects) == (card.digest, card.subjects)


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
