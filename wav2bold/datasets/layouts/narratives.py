"""The Narratives collection, OpenNeuro ds002345, as it is published (Nastase et al. 2021, Sci Data 8:250).

    sub-001/func/sub-001_task-pieman_run-1_events.tsv     onset duration trial_type stim_file, in seconds
    derivatives/afni-nosmooth/sub-001/func/
        sub-001_task-pieman_run-1_space-fsaverage6_hemi-{L,R}_desc-clean.func.gii
        sub-001_task-pieman_run-1_space-MNI152NLin2009cAsym_res-native_desc-clean_bold.nii.gz
    stimuli/pieman_audio.wav
    code/event_meta.json      {task: {story: {"onset": 10, "duration": 281}}}, in volumes of 1.5 s
    code/scan_exclude.json    {task: {subject: ["sub-001_task-pieman_run-1"]}}

Names and shapes are those of the authors' scripts (github.com/snastase/narratives: code/run_regression.py,
run_isc.py, exclude_scans.py, gifti_io.py, staging/compile_events.py). The first of them gives AFNI the TR of
surfaces by hand: their metadata is not to be relied on.

**When a sound began.** `event_meta.json` says when the *story* began, in whole volumes. Its sound may have
begun earlier: most of the published files open with some 20 s of music and a pause, and `pieman_audio.wav` is
as long as the scan (the paper's figure 1). A sound begins where the events file first names it, to the music
or to the story. The stories in both files must agree, so that a change in either is noticed.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bids2table import parse_bids_entities

from wav2bold.datasets.files import below, check_readable, closed_to_us, is_there
from wav2bold.datasets.layouts.choosing import (
    FINDING,
    UNFETCHED,
    Refuse,
    Tell,
    agreed_tr_s,
    choose_space,
    is_fetched,
    left_out,
    refuse_closed,
    space_of,
    stop,
    unheard,
)
from wav2bold.datasets.runs import Run, numbered
from wav2bold.errors import DataError
from wav2bold.progress import Progress, silent, watched

PIPELINE = Path("derivatives", "afni-nosmooth")
EVENT_META, SCAN_EXCLUDE = Path("code", "event_meta.json"), Path("code", "scan_exclude.json")
TR_S = 1.5
USUAL_SPACE = "fsaverage6"
SLACK_S = 2 * TR_S
"""event_meta.json counts whole volumes, and rounds up or down."""

Stories = list[tuple[float, float]]
"""Onset in the scan and duration of each story of a task, seconds, in order."""


@dataclass(frozen=True)
class _Recording:
    """stem: its name up to the space, which is also that of its events file."""

    stem: str
    subject: str
    task: str
    files: tuple[Path, ...]


def matches(source: Path) -> bool:
    """A folder with the authors' pipeline and their table of events."""
    return (source / PIPELINE).is_dir() and (source / EVENT_META).is_file()


def find_runs(
    root: Path,
    space: str | None = None,
    tell: Tell = unheard,
    refuse: Refuse = stop,
    progress: Progress = silent,
) -> list[Run]:
    """Every recording of a story, ordered by subject and task, the authors' exclusions left out.

    space: None takes fsaverage6, where it is.
    Raises DataError if nothing is found. `refuse` is told, with the file, where a partner, events or a sound
    is missing, or the events are not those of event_meta.json.
    """
    stories, excluded = _stories(root), _excluded(root)
    closed: list[Path] = []
    by_space = _recordings(root, closed)
    refuse_closed(root, closed, refuse)
    refused = bool(closed)
    if space is None and USUAL_SPACE in by_space:
        space = USUAL_SPACE
    left: defaultdict[str, list[str]] = defaultdict(list)
    runs: list[Run] = []
    for recording in watched(by_space[choose_space(root, by_space, space)], FINDING, progress):
        if recording.task not in stories:
            left[f"no story in {EVENT_META}"].append(recording.stem)
        elif _is_excluded(recording.stem, excluded):
            left[f"as {SCAN_EXCLUDE} says"].append(recording.stem)
        elif not any(is_fetched(path) for path in recording.files):
            left[UNFETCHED].append(recording.stem)
        else:
            try:
                runs += list(_runs(root, recording, stories[recording.task]))  # all of them or none
            except DataError as error:
                refuse(recording.stem, error)
                refused = True
    for why, stems in left.items():
        tell(left_out(stems, why))
    if not runs and not refused:
        raise DataError(f"{root / PIPELINE}: every recording is left out", "fetch some (`datalad get`)")
    return numbered(runs)


def _recordings(root: Path, closed: list[Path]) -> dict[str, list[_Recording]]:
    """All recordings of each space, ordered by name. closed: folders that may not be read are added to it."""
    files: defaultdict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    for path in below(root / PIPELINE, "sub-*/func/sub-*_desc-clean*", closed):
        entities = parse_bids_entities(path)
        if entities.get("desc") == "clean" and entities.get("ext") in {".func.gii", ".nii.gz", ".nii"}:
            stem = path.name.partition("_space-")[0]
            files[space_of(entities), stem][entities.get("hemi", "")] = path
    if not files and closed:
        raise closed_to_us(closed[0])
    if not files:
        raise DataError(
            f"{root}: no recordings found",
            f"looked for {PIPELINE}/sub-*/func/sub-*_space-{USUAL_SPACE}_hemi-L_desc-clean.func.gii",
        )
    found: defaultdict[str, list[_Recording]] = defaultdict(list)
    for (space, stem), sides in files.items():
        entities = parse_bids_entities(next(iter(sides.values())))
        paths = tuple(sides[side] for side in ("L", "R", "") if side in sides)
        found[space].append(_Recording(stem, f"sub-{entities['sub']}", entities.get("task", ""), paths))
    return found


def _check_pair(files: tuple[Path, ...]) -> None:
    """Raise DataError if a hemisphere is alone."""
    side = parse_bids_entities(files[0]).get("hemi")
    if side and len(files) < 2:
        wanted = files[0].name.replace(f"hemi-{side}", f"hemi-{'R' if side == 'L' else 'L'}")
        raise DataError(f"{files[0]}: has no partner {wanted}", "put both hemispheres there")


def _runs(root: Path, recording: _Recording, stories: Stories) -> Iterator[Run]:
    """One run for each sound that was heard in a recording."""
    _check_pair(recording.files)
    tr_s = agreed_tr_s(recording.files[0], TR_S, "the collection's is")
    space = space_of(parse_bids_entities(recording.files[0]))
    beside = root / recording.subject / "func" / f"{recording.stem}_events.tsv"
    above = root / f"task-{recording.task}_events.tsv"  # as BIDS lets all recordings of a task share one
    path = above if is_there(above) and not is_there(beside) else beside
    for sound, onset_s in _sounds(path, stories).items():
        audio = root / "stimuli" / sound
        if not is_fetched(audio):  # the scripts call a sound `notthefall` whose task is `notthefallintact`
            audio = audio.with_name(f"{recording.task}_audio.wav")
        if not is_fetched(audio):
            missing = audio.with_name(sound)
            raise DataError(
                f"{missing}: no such file, {path.name} names it", "fetch it (`datalad get stimuli`)"
            )
        yield Run(
            subject=recording.subject,
            story=audio.stem.removesuffix("_audio"),
            repeat=1,
            bold=recording.files,
            audio=audio,
            tr_s=tr_s,
            onset_s=onset_s,
            confounds=None,
            space=space,
        )


def _sounds(path: Path, stories: Stories) -> dict[str, float]:
    """When each sound that an events file names began in the scan, seconds.

    Raises DataError if its stories are not those of event_meta.json.
    """
    check_readable(path, "fetch it: it says when the sound began")
    try:
        events = pd.read_csv(path, sep="\t", na_values=["n/a"], dtype={"trial_type": str, "stim_file": str})
    except ValueError:  # pandas' own, also of text that is none
        raise DataError(f"{path}: is no table of events", "fetch it again") from None
    lacking = {"onset", "duration", "trial_type", "stim_file"} - set(events.columns)
    if lacking:
        raise DataError(f"{path}: has no column {', '.join(sorted(lacking))}", "fetch it again")
    events[["onset", "duration"]] = events[["onset", "duration"]].apply(pd.to_numeric, errors="coerce")
    events = events.dropna(subset=["onset", "duration", "stim_file"])
    told = events.loc[events["trial_type"] == "story", ["onset", "duration"]].sort_values("onset").to_numpy()
    if len(told) != len(stories) or (np.abs(told - np.array(stories)) > SLACK_S).any():
        raise DataError(
            f"{path}: its stories begin at {_seconds(told)} and last {_seconds(told, 1)}, by {EVENT_META} "
            f"they begin at {_seconds(stories)} and last {_seconds(stories, 1)}",
            "set the wrong one of the two right",
        )
    return {str(name): float(onset) for name, onset in events.groupby("stim_file")["onset"].min().items()}


def _seconds(stories: Any, column: int = 0) -> str:
    return ", ".join(f"{story[column]:g} s" for story in stories) or "none"


def _stories(root: Path) -> dict[str, Stories]:
    """Each task's stories by event_meta.json. Raises DataError if that is missing or damaged."""
    path = root / EVENT_META
    tasks = _read_json(path)
    try:
        return {
            task: sorted((one["onset"] * TR_S, one["duration"] * TR_S) for one in stories.values())
            for task, stories in tasks.items()
        }
    except (KeyError, TypeError):
        raise _damaged(path) from None


def _excluded(root: Path) -> list[str]:
    """The recordings that the authors leave out. Raises DataError if their file is missing or damaged."""
    path = root / SCAN_EXCLUDE
    lists = [names for subjects in _read_json(path).values() for names in subjects.values()]
    if not all(isinstance(names, list) for names in lists):
        raise _damaged(path)
    return [str(name) for names in lists for name in names]


def _is_excluded(stem: str, excluded: list[str]) -> bool:
    """Whether a recording is named, by itself or with all runs of its task."""
    return any(stem == name or stem.startswith(f"{name}_") for name in excluded)


def _read_json(path: Path) -> dict[str, dict[str, Any]]:
    check_readable(path, "fetch the collection's code folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise _damaged(path) from None
    if not isinstance(content, dict) or not all(isinstance(inner, dict) for inner in content.values()):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> DataError:
    return DataError(f"{path}: is not the collection's table of tasks", "fetch it again")
