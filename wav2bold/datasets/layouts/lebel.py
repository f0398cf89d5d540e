"""Natural stories heard by eight people, OpenNeuro ds003020, as published (LeBel et al. 2023, Sci Data 10).

    derivative/preprocessed_data/UTS01/wheretheressmoke.hf5
        data                  (volumes, voxels)
        individual_repeats    (repeats, volumes, voxels) of a story heard several times; `data` is their mean
    stimuli/wheretheressmoke.wav

Names and shapes are those of the authors' scripts (github.com/HuthLab/deep-fMRI-dataset, encoding/:
encoding_utils.py, ridge_utils/stimulus_utils.py). Some copies of the collection call the folder
`derivatives`. Which voxel of the brain a column is, these files don't say.

**The clock.** A run began with 10 s of silence before its sound, at a TR of 2.0045 s. The authors align a
matrix with volumes [10:-5] of what was heard, so its row 0 is volume 10, acquired at 20.045 s and thus
10.045 s into the sound. Their loaders go on in steps of 2 s; here every row has its own fraction.
"""

from pathlib import Path

from wav2bold.datasets.files import below, closed_to_us
from wav2bold.datasets.layouts.choosing import (
    FINDING,
    UNFETCHED,
    Refuse,
    Tell,
    choose_space,
    is_fetched,
    left_out,
    refuse_closed,
    stop,
    unheard,
)
from wav2bold.datasets.matrices import shapes
from wav2bold.datasets.runs import Run, numbered
from wav2bold.errors import DataError
from wav2bold.progress import Progress, silent, watched

FOLDERS = (Path("derivative", "preprocessed_data"), Path("derivatives", "preprocessed_data"))
MEAN, REPEATS = "data", "individual_repeats"
TR_S = 2.0045
ONSET_S = -10.045
"""10 s of silence less 10 volumes: the sound began that long before row 0."""
SPACE = "native"


def matches(source: Path) -> bool:
    """A folder with the authors' matrices."""
    return any((source / folder).is_dir() for folder in FOLDERS)


def find_runs(
    root: Path,
    space: str | None = None,
    tell: Tell = unheard,
    refuse: Refuse = stop,
    progress: Progress = silent,
) -> list[Run]:
    """Every recording, ordered by subject and story. Repeats of a story are runs of their own.

    space: there is none but `native`.
    Raises DataError if nothing is found. `refuse` is told where a matrix or a sound is missing, or damaged.
    """
    choose_space(root, [SPACE], space)
    closed: list[Path] = []
    paths = [path for folder in FOLDERS for path in below(root / folder, "*/*.hf5", closed)]
    if not paths and closed:
        raise closed_to_us(closed[0])
    if not paths:
        raise DataError(f"{root}: no recordings found", f"looked for {FOLDERS[0]}/*/*.hf5")
    fetched = [path for path in paths if is_fetched(path)]
    missing = [f"{path.parent.name}/{path.stem}" for path in paths if not is_fetched(path)]
    if missing:
        tell(left_out(missing, UNFETCHED))
    if not fetched:
        raise DataError(f"{paths[0].parent.parent}: nothing there was fetched", "fetch some (`datalad get`)")
    refuse_closed(root, closed, refuse)
    runs: list[Run] = []
    for path in watched(fetched, FINDING, progress):
        try:
            runs += _runs(path, root / "stimuli" / f"{path.stem}.wav")
        except DataError as error:
            refuse(f"{path.parent.name}/{path.stem}", error)
    return numbered(runs)


def _runs(path: Path, audio: Path) -> list[Run]:
    """One run for each repeat in a file."""
    if not is_fetched(audio):
        raise DataError(
            f"{audio}: no such file, {path.parent.name} heard it", "fetch it (`datalad get stimuli`)"
        )
    return [
        Run(
            subject=path.parent.name,
            story=path.stem,
            repeat=1,
            bold=(path,),
            audio=audio,
            tr_s=TR_S,
            onset_s=ONSET_S,
            confounds=None,
            space=SPACE,
            member=member,
        )
        for member in _members(path)
    ]


def _members(path: Path) -> list[str]:
    """The matrices to read: each repeat where there are several, or else the only one."""
    there = shapes(path)
    repeats = there.get(REPEATS, ())
    if len(repeats) == 3 and repeats[0] > 1:
        return [f"{REPEATS}[{number}]" for number in range(repeats[0])]
    if MEAN not in there:
        held = ", ".join(there) or "no array"
        raise DataError(f"{path}: holds no {MEAN}, but {held}", "fetch it again, or leave it out")
    return [MEAN]
