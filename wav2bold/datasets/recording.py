"""One recording, from its files to its shard: they are read once, and cleaned with all their varying targets.

Which of these all recordings of a subject have is known only when all were read. A shard of fewer targets is
made of one of more, by choosing columns: whichever way a shard came about, its bytes are the same.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.config import Cleaning, Targets
from wav2bold.datasets.bold import grid, read_bold, varying
from wav2bold.datasets.cleaning import clean, read_confounds, steady
from wav2bold.datasets.regions import Regions, read_regions
from wav2bold.datasets.runs import Run
from wav2bold.datasets.scan import (
    RunScan,
    as_metadata,
    exact,
    pack,
    remembered,
    run_key,
    shard_digest,
    unpack,
)
from wav2bold.datasets.shards import Bold, read_run
from wav2bold.datasets.targets import (
    columns_among,
    pack_tsnr,
    to_candidates,
    to_targets,
    tsnr,
    unpack_tsnr,
)
from wav2bold.datasets.writing import read_metadata, write_run
from wav2bold.errors import DataError
from wav2bold.places import Place

Drafts = Callable[..., Place]
"""Where a file is drafted, by what it is made from: `Writer.draft`."""


def draft_of(run: Run, key: str, drafts: Drafts) -> Place:
    """Where the shard of all varying targets of a recording is drafted. key: of its scan."""
    return drafts("run", key, run.subject, run.story, *map(str, run.bold), run.member or "")


def scan_run(run: Run, cleaning: Cleaning, targets: Targets, shard: Place, drafts: Drafts) -> RunScan:
    """Read, clean and draft a recording, unless its shard or its draft says what it holds.

    Raises DataError if a file is damaged, the recording ends before its story begins, no target varies, or
    cleaning would leave nothing.
    """
    inputs, key = run_key(run, cleaning, targets)
    draft = draft_of(run, key, drafts)
    known = remembered(RunScan, inputs, key, (shard, draft))
    if known is not None:
        return known
    y = read_bold(run, cleaning.mask)
    if len(y) * run.tr_s <= run.onset_s:
        raise DataError(
            f"{run.bold[0]}: BOLD ends at {len(y) * run.tr_s:g} s, {run.story} begins at {run.onset_s:g} s",
            f"check onset in the events file of {run.name}",
        )
    regions = read_regions(run, cleaning.mask, targets, y.shape[1])
    y = to_candidates(y, regions)
    kept = y[steady(len(y), cleaning)]
    keep = varying(kept) if len(kept) else np.zeros(y.shape[1], bool)
    if not keep.any():
        raise DataError(
            f"{run.bold[0]}: no target varies", "check that the file, or the mask, is the right one"
        )
    packed = pack(keep)
    scan = RunScan(inputs, key, len(y), y.shape[1], grid(run, y.shape[1]), packed)
    if cleaning.smoothing_fwhm_mm is not None:  # it spreads what varies to what doesn't
        y = to_candidates(read_bold(run, cleaning.mask, cleaning.smoothing_fwhm_mm), regions)
    y = to_targets(y, keep, regions)
    _write(draft, cleaning, scan, packed, packed, _cleaned(run, y, cleaning))
    return scan


def write_run_job(
    run: Run,
    cleaning: Cleaning,
    targets: Targets,
    scan: RunScan,
    base: str,
    keep: str,
    wider: Sequence[Place],
    draft: Place,
) -> None:
    """Draft a recording's shard of its subject's targets.

    base: candidates that are cleaned.  keep: those of the targets. Both as `pack` makes them.
    wider: shards and drafts that may hold these targets among others; otherwise the recording is read again.
    """
    regions = read_regions(run, cleaning.mask, targets) if targets.average else None
    wanted = unpack(keep, scan.candidates)
    for place in wider:
        said = read_metadata(place)
        kept = said.get("kept", "")
        if said.get("digest") != shard_digest(scan, kept, base):
            continue
        columns = columns_among(wanted, unpack(kept, scan.candidates), regions)
        if columns is None:
            continue
        bold, steadiness = read_run(place), unpack_tsnr(said["tsnr"])
        if isinstance(place, Path) or read_metadata(place) == said:  # nobody has replaced it meanwhile
            break
    else:
        cleaned = unpack(base, scan.candidates)
        columns = columns_among(wanted, cleaned, regions)
        bold, steadiness = _cleaned(run, read_targets(run, cleaning, targets, cleaned), cleaning)
    assert columns is not None
    chosen = Bold(bold.t, bold.time_s, bold.y[:, columns])
    _write(draft, cleaning, scan, base, keep, (chosen, steadiness[columns]))


def cleaned_together(scan: RunScan, keep: NDArray[np.bool_], regions: Regions | None) -> str:
    """Which candidates of a recording are cleaned, of which its targets are chosen later; as `pack` makes it.

    keep: (candidates,) bool, those that vary in all of its subject's recordings.
    All that vary in itself; only where a region's mean would be over others, those of `keep`.
    """
    if columns_among(keep, unpack(scan.packed, scan.candidates), regions) is None:
        return pack(keep)
    return scan.packed


def read_targets(
    run: Run, cleaning: Cleaning, targets: Targets, keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """A recording's targets before cleaning: (volumes, targets)."""
    recorded = read_bold(run, cleaning.mask, cleaning.smoothing_fwhm_mm)
    regions = read_regions(run, cleaning.mask, targets)
    return to_targets(to_candidates(recorded, regions), keep, regions)


def steadiness_of(
    shard: Place, run: Run, cleaning: Cleaning, targets: Targets, keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Temporal SNR per target as a shard says; measured, where it is from before shards said it."""
    said = read_metadata(shard).get("tsnr")
    if said is not None:
        return unpack_tsnr(said)
    raw = read_targets(run, cleaning, targets, keep)
    return tsnr(raw[steady(len(raw), cleaning)])


def story_times_s(t: NDArray[np.int32], tr_s: float, onset_s: float) -> NDArray[np.float64]:
    """When each volume of a scan was acquired, in seconds of the story: t * tr_s - onset_s, rounded once."""
    return np.array([float(int(volume) * exact(tr_s) - exact(onset_s)) for volume in t])


def _cleaned(run: Run, raw: NDArray[np.float32], cleaning: Cleaning) -> tuple[Bold, NDArray[np.float32]]:
    """The cleaned recording, which takes the memory of the raw one, and its tSNR per target.

    Its file's name is on what goes wrong.
    """
    confounds = read_confounds(run, cleaning, len(raw))
    kept = steady(len(raw), cleaning)
    steadiness = tsnr(raw[kept])
    try:
        y = clean(raw, run.tr_s, cleaning, confounds, out=raw[kept])
    except DataError as error:
        raise DataError(f"{run.bold[0]}: {error.what}", error.cure) from None
    t = np.arange(kept.start, kept.stop, dtype=np.int32)
    return Bold(t, story_times_s(t, run.tr_s, run.onset_s), y), steadiness


def _write(
    path: Place,
    cleaning: Cleaning,
    scan: RunScan,
    base: str,
    keep: str,
    made: tuple[Bold, NDArray[np.float32]],
) -> None:
    bold, steadiness = made
    metadata = {
        "digest": shard_digest(scan, keep, base),
        "scan": as_metadata(scan),
        "kept": keep,
        "tsnr": pack_tsnr(steadiness),
    }
    write_run(path, bold, cleaning.dtype, metadata)
