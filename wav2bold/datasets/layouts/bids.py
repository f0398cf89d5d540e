"""fMRIPrep-style BIDS derivatives: NIfTI volumes, pairs of GIFTI surfaces, or CIFTI time series.

File names are parsed by bids2table. Its indexer is not used: it passes silently over folders whose name has a
dot (`fmriprep-23.2.1`) or a bracket, leaves out JSON sidecars and files above the subjects' folders, and
remembers a folder's state for as long as the process lives.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from bids2table import parse_bids_entities

from wav2bold.datasets.bold import header_tr_s
from wav2bold.datasets.cifti import DTSERIES
from wav2bold.datasets.files import check_readable, closed_to_us, is_there, walk
from wav2bold.datasets.layouts.choosing import (
    FINDING,
    TR_TOLERANCE_S,
    Refuse,
    Tell,
    choose_space,
    refuse_closed,
    space_of,
    stop,
    unheard,
)
from wav2bold.datasets.runs import Run, numbered
from wav2bold.errors import DataError
from wav2bold.progress import Progress, silent, watched

VOLUMES, SURFACE = (".nii.gz", ".nii"), ".func.gii"
SUFFIXES = {"bold", "events", "timeseries", "regressors"}
PROCESSED = {"space", "res", "den", "desc", "hemi", "datatype", "suffix", "ext"}
"""Entities that say how a recording was processed, not which one it is."""
SOUNDS = (".wav", ".flac", ".mp3", ".ogg")


@dataclass(frozen=True)
class _File:
    path: Path
    entities: Mapping[str, str]

    @property
    def recording(self) -> dict[str, str]:
        return {key: value for key, value in self.entities.items() if key not in PROCESSED}

    @property
    def space(self) -> str:
        return space_of(self.entities)

    def applies_to(self, recording: Mapping[str, str]) -> bool:
        return self.recording.items() <= recording.items()


def matches(source: Path) -> bool:
    """Any folder: where its subjects' files are is for `find_runs` to look."""
    return source.is_dir()


def find_runs(
    root: Path,
    space: str | None = None,
    tell: Tell = unheard,
    refuse: Refuse = stop,
    progress: Progress = silent,
) -> list[Run]:
    """Every recording of a story under `root`, ordered by subject, session, task and run.

    One row of an events file is one hearing: its story is the stem of `stim_file`, or else its `trial_type`,
    with the sound under `stimuli/`. Hearings of one story by one subject are numbered by `repeat`.
    space: which one to take where recordings were written in several; None where there is one.
    Raises DataError if nothing is found. `refuse` is told, with the file, where a partner, a TR, events or a
    sound is missing, or the sidecar's TR is not the header's.
    """
    closed: list[Path] = []
    files = [_File(path, parse_bids_entities(path)) for path in _walk(root, closed)]
    by_subject: defaultdict[str | None, list[_File]] = defaultdict(list)
    for file in files:
        by_subject[file.entities.get("sub")].append(file)
    groups = _recordings(root, files, space, tell, closed)
    refuse_closed(root, closed, refuse)
    runs: list[Run] = []
    for group in watched(groups, FINDING, progress):
        recording = group[0].recording
        own = by_subject[recording["sub"]] + by_subject[None]  # what may apply to it
        try:
            runs += _runs(root, group, own)
        except DataError as error:
            refuse(_stem(recording), error)
    return numbered(runs)


def _runs(root: Path, group: list[_File], own: Sequence[_File]) -> list[Run]:
    """One run for each hearing in a recording. own: the files that may apply to it."""
    bold = _paired(group)
    first = bold[0]
    tr_s = _tr_s(first, own)
    confounds = _nearest(
        first, [f for f in own if f.entities.get("desc") == "confounds" and f.path.suffix == ".tsv"]
    )
    return [
        Run(
            subject=f"sub-{first.recording['sub']}",
            story=story,
            repeat=1,
            bold=tuple(file.path for file in bold),
            audio=audio,
            tr_s=tr_s,
            onset_s=onset_s,
            confounds=confounds,
            space=first.space,
            duration_s=duration_s,
        )
        for story, onset_s, audio, duration_s in _hearings(root, first, own)
    ]


def _walk(root: Path, closed: list[Path]) -> Iterator[Path]:
    """Files whose BIDS suffix matters here, sorted. closed: folders that may not be read are added to it."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", "give the folder of a BIDS data set or its derivatives")
    for folder, names in walk(root, closed):
        for name in names:
            if name.partition(".")[0].rpartition("_")[2] in SUFFIXES:
                yield folder / name


def _recordings(
    root: Path, files: Sequence[_File], space: str | None, tell: Tell, closed: Sequence[Path]
) -> list[list[_File]]:
    """Each recording's files in one space, in order. closed: folders in which others may be."""
    kinds = (*VOLUMES, SURFACE, DTSERIES)
    found = [f for f in files if f.entities["suffix"] == "bold" and f.entities.get("ext") in kinds]
    found = [f for f in found if "sub" in f.entities and f.entities.get("desc", "preproc") == "preproc"]
    groups: defaultdict[tuple[tuple[str, str], ...], list[_File]] = defaultdict(list)
    for file in found:
        groups[tuple(sorted(file.recording.items()))].append(file)
    chosen = {key: _processed(group) for key, group in groups.items()}
    if not chosen and closed:
        raise closed_to_us(closed[0])
    if not chosen:
        raise DataError(
            f"{root}: no recordings found",
            "looked for sub-*_desc-preproc_bold.nii.gz, sub-*_bold.nii.gz, sub-*_hemi-L_*bold.func.gii and "
            f"sub-*_bold{DTSERIES}; give the folder that fMRIPrep wrote",
        )
    space = choose_space(root, (file.space for group in chosen.values() for file in group), space)
    chosen = {key: [f for f in group if f.space == space] for key, group in chosen.items()}
    absent = sum(not group for group in chosen.values())
    if absent:
        tell(f"{absent} of {len(chosen)} recordings left out: they are not in space {space}")
    chosen = {key: group for key, group in chosen.items() if group}
    return [group for _, group in sorted(chosen.items(), key=lambda item: _order(dict(item[0])))]


def _processed(group: list[_File]) -> list[_File]:
    """What preprocessing wrote, where it wrote something; otherwise the recording itself."""
    better = [f for f in group if {"space", "desc", "hemi"} & f.entities.keys()]
    preproc = {f.space for f in better if "desc" in f.entities}
    return [f for f in better if "desc" in f.entities or f.space not in preproc] or group


def _paired(group: list[_File]) -> tuple[_File, ...]:
    """One volume or CIFTI file, or left and right."""
    if any(file.entities["ext"] != SURFACE for file in group):
        if len(group) > 1:
            raise DataError(f"{group[0].path}: also at {group[1].path}", "keep one of the two")
        return (group[0],)
    sides: dict[str, _File] = {}
    for file in group:
        side = file.entities.get("hemi", "none")
        if side in sides:
            raise DataError(f"{file.path}: also at {sides[side].path}", "keep one of the two")
        sides[side] = file
    for side, other in (("L", "R"), ("R", "L")):
        if side not in sides:
            given = sides.get(other, group[0]).path
            wanted = given.name.replace(f"hemi-{other}", f"hemi-{side}")
            raise DataError(f"{given}: has no partner {wanted}", "put both hemispheres there")
    return (sides["L"], sides["R"])


def _stem(recording: Mapping[str, str]) -> str:
    return "_".join(f"{key}-{value}" for key, value in recording.items())


def _order(recording: Mapping[str, str]) -> tuple[object, ...]:
    run = recording.get("run", "0")
    number = int(run) if run.isdigit() else 0
    return (recording["sub"], recording.get("ses", ""), recording.get("task", ""), number, str(recording))


def _tr_s(bold: _File, files: Sequence[_File]) -> float:
    """TR by the sidecars that BIDS lets apply, the deepest last, checked against the header's."""
    stated: tuple[float, Path] | None = None
    above = [f for f in files if f.path.suffix == ".json" and f.path.parent in bold.path.parents]
    above = [f for f in above if f.entities["suffix"] == "bold" and _inherits(f, bold)]
    for file in sorted(above, key=lambda f: (len(f.path.parts), len(f.entities))):
        check_readable(file.path)
        try:
            value = json.loads(file.path.read_text(encoding="utf-8")).get("RepetitionTime")
            stated = stated if value is None else (float(value), file.path)
        except (ValueError, TypeError, AttributeError):
            raise DataError(f"{file.path}: not JSON with a RepetitionTime in seconds", "mend it") from None
    header = header_tr_s(bold.path)
    if stated is None and header is None:
        raise DataError(
            f"{bold.path}: no TR in its header and no sidecar that says RepetitionTime",
            f"write it, in seconds, to {bold.path.name.partition('.')[0]}.json",
        )
    if stated is None:
        assert header is not None
        return header
    if stated[0] <= 0 or (header is not None and abs(header - stated[0]) > TR_TOLERANCE_S):
        beside = "" if header is None else f", the header of {bold.path.name} {header:g} s"
        raise DataError(
            f"{stated[1]}: RepetitionTime is {stated[0]:g} s{beside}", "set the wrong one of the two right"
        )
    return stated[0]


def _inherits(sidecar: _File, bold: _File) -> bool:
    given = {key: value for key, value in sidecar.entities.items() if key not in {"ext", "datatype"}}
    return given.items() <= bold.entities.items()


def _nearest(bold: _File, candidates: Sequence[_File]) -> Path | None:
    """The file that says most about this recording; of copies, the one in its own folder."""
    fitting = [file for file in candidates if file.applies_to(bold.recording)]
    best = max(
        fitting,
        key=lambda f: (len(f.recording), f.path.parent == bold.path.parent, -len(f.path.parts)),
        default=None,
    )
    return None if best is None else best.path


def _hearings(
    root: Path, bold: _File, files: Sequence[_File]
) -> Iterator[tuple[str, float, Path, float | None]]:
    """(story, onset in seconds, sound, duration in seconds if given) of each hearing in a recording."""
    path = _nearest(bold, [f for f in files if f.entities["suffix"] == "events" and f.path.suffix == ".tsv"])
    if path is None:
        stem = _stem(bold.recording)
        raise DataError(
            f"{bold.path}: no events file says which story was heard",
            f"write {stem}_events.tsv with the columns onset, duration and stim_file",
        )
    check_readable(path)
    try:
        events = pd.read_csv(path, sep="\t", dtype=str, na_values=["n/a"])
    except (OSError, ValueError):  # pandas' own, also of text that is none
        raise DataError(f"{path}: is no table of events", "write onset, duration and stim_file") from None
    column = next((name for name in ("stim_file", "trial_type") if name in events), None)
    if column is None or "onset" not in events:
        has = ", ".join(events.columns)
        raise DataError(f"{path}: has the columns {has}", "write onset, duration and stim_file")
    durations = pd.to_numeric(events.get("duration", pd.Series(np.nan, events.index)), errors="coerce")
    found = False
    missing: list[str] = []
    columns = zip(events["onset"], events[column], durations, strict=True)
    for row, (onset, name, duration) in enumerate(columns, start=2):
        if pd.isna(name):
            continue
        audio = _sound(root, path, str(name), exact=column == "stim_file")
        if audio is None:
            missing.append(str(name))
            continue
        onset_s = pd.to_numeric(onset, errors="coerce")
        if pd.isna(onset_s):
            raise DataError(f"{path}: line {row}: onset {onset} is no number", "write seconds")
        found = True
        story = Path(name).stem if column == "stim_file" else str(name)
        yield story, float(onset_s), audio, float(duration) if duration > 0 else None
    if missing and (column == "stim_file" or not found):
        raise DataError(
            f"{path}: {column} names {missing[0]}, which is not under a stimuli/ folder",
            f"put the sound into {root / 'stimuli'}",
        )
    if not missing and not found:
        raise DataError(f"{path}: names no story", f"name the sound of each hearing in {column}")


def _sound(root: Path, events: Path, name: str, *, exact: bool) -> Path | None:
    """The sound under the nearest `stimuli/` from the events file up to the root."""
    names = [name.removeprefix("stimuli/")] if exact else [name + suffix for suffix in SOUNDS]
    for folder in events.parents:
        for candidate in names:
            if is_there(folder / "stimuli" / candidate):
                return folder / "stimuli" / candidate
        if folder == root:
            return None
    return None
