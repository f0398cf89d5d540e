"""A manifest: one line per recording, for whatever no other layout reads.

Tab-separated, with a line of column names in any order. `n/a` or nothing where a value is unknown.

| column | what |
|---|---|
| `subject`, `story` | names; a subject's lines of one story are its repeats, in their order |
| `bold` | a file, a GIFTI pair `left.func.gii,right.func.gii`, or a matrix within a file, `file.hf5::data` |
| `audio` | the story's sound |
| `tr` | seconds between volumes; may be unknown where the file's header says it |
| `onset_s` | when the sound began, seconds after the file's first volume; below 0 if before it |
| `confounds` | a table of confounds, or unknown |
| `space` | where the targets lie; if unknown, what the BOLD file's own name says, or else `native` |
| `duration_s` | how long the sound was heard, seconds, or unknown |

Paths are relative to the manifest. Other columns are passed over, unless they look like a misspelt one.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bids2table import parse_bids_entities

from wav2bold.datasets.bold import header_tr_s
from wav2bold.datasets.files import closed_to_us, is_there
from wav2bold.datasets.layouts.choosing import (
    FINDING,
    Refuse,
    Tell,
    agreed_tr_s,
    choose_space,
    space_of,
    stop,
    unheard,
)
from wav2bold.datasets.matrices import columns as matrix_columns
from wav2bold.datasets.matrices import is_matrix
from wav2bold.datasets.runs import Run, numbered
from wav2bold.errors import DataError
from wav2bold.options import nearest
from wav2bold.progress import Progress, silent, watched

NEEDED = ("subject", "story", "bold", "audio", "tr", "onset_s")
OPTIONAL = ("confounds", "space", "duration_s")
UNKNOWN = {"", "n/a", "na", "nan"}
MEMBER = "::"
MOST_MISTAKES = 20
"""Shown of one file; all are counted."""


def matches(source: Path) -> bool:
    """A `.tsv`, whether or not it exists."""
    return source.suffix.lower() == ".tsv" and not source.is_dir()


def find_runs(
    source: Path,
    space: str | None = None,
    tell: Tell = unheard,
    refuse: Refuse = stop,
    progress: Progress = silent,
) -> list[Run]:
    """The run of every line, in their order. space: which to take if the manifest has several.

    Raises DataError with all mistakes of the file, each with its line. Another `refuse` than `stop` is told
    of each line's, and the other lines are given.
    """
    lines = list(_lines(source))
    mistakes: list[tuple[int, str]] = []
    first: dict[tuple[object, ...], int] = {}
    runs: list[Run] = []
    for number, values in watched(lines, FINDING, progress):
        wrong: list[DataError] = []
        try:
            run = _run(source.parent, values, wrong)
        except DataError as error:  # a path that may not be read
            run = None
            wrong.append(error)
        mistakes += [(number, str(error)) for error in wrong]
        if run is None:
            continue
        same = first.setdefault((run.subject, run.story, run.bold, run.member, run.onset_s), number)
        if same != number:
            mistakes.append((number, f"is the recording of line {same}; delete one of the two"))
            continue
        runs.append(run)
    if refuse is stop:
        _refuse(source, [f"line {number}: {mistake}" for number, mistake in mistakes])
    for number, mistake in mistakes:
        refuse(f"line {number}", DataError(f"{source}: line {number}: {mistake}"))
    if not runs and mistakes:
        return []
    if not runs:
        raise DataError(f"{source}: names no recording", "write a line for each")
    space = choose_space(source, (run.space for run in runs), space)
    chosen = [run for run in runs if run.space == space]
    if len(chosen) < len(runs):
        tell(f"{len(runs) - len(chosen)} of {len(runs)} recordings left out: they are not in space {space}")
    return numbered(chosen)


def as_manifest(runs: Iterable[Run]) -> str:
    """Runs as a manifest, with absolute paths, that `find_runs` reads back as the same ones."""
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow([*NEEDED, *OPTIONAL])
    for run in runs:
        bold = ",".join(str(path.absolute()) for path in run.bold) + (
            MEMBER + run.member if run.member else ""
        )
        confounds = run.confounds.absolute() if run.confounds else "n/a"
        heard_s = "n/a" if run.duration_s is None else run.duration_s
        audio = run.audio.absolute()
        table.writerow(
            [run.subject, run.story, bold, audio, run.tr_s, run.onset_s, confounds, run.space, heard_s]
        )
    return text.getvalue()


def _lines(source: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Number and values of each line that is not empty. None where a value is unknown."""
    try:
        text = source.read_text(encoding="utf-8-sig")  # Excel begins its files with a mark
    except FileNotFoundError:
        raise DataError(f"{source}: no such file", "give a manifest, or a folder of recordings") from None
    except PermissionError:
        raise closed_to_us(source) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: is not UTF-8 text ({error.reason})", "save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{source}: can't be read ({error.strerror})", "give a manifest (.tsv)") from None
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    names = [name.strip() for name in next(rows, [])]
    _check_names(source, names)
    for cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
            raise DataError(
                f"{source}: line {rows.line_num}: {len(cells)} values for {len(names)} columns",
                "put one tab between two values",
            )
        padded = [*cells, *[""] * (len(names) - len(cells))]
        values = {name: cell.strip() for name, cell in zip(names, padded, strict=False)}
        yield (
            rows.line_num,
            {name: None if cell.lower() in UNKNOWN else cell for name, cell in values.items()},
        )


def _check_names(source: Path, names: list[str]) -> None:
    known = (*NEEDED, *OPTIONAL)
    mistakes = []
    for name in NEEDED:
        if name not in names:
            near = nearest(name, [given for given in names if given not in known])
            mistakes.append(f"has no column {name}" + (f"; is {near} meant?" if near else ""))
    if mistakes and len(names) == 1:
        raise DataError(f"{source}: one column, {names[0]}", "separate columns by tabs")
    for name in OPTIONAL:
        near = None if name in names else nearest(name, [given for given in names if given not in known])
        if near:
            mistakes.append(f"column {near}: unknown; is {name} meant?")
    mistakes += [f"column {name}: is there twice" for name in known if names.count(name) > 1]
    _refuse(source, mistakes)


def _refuse(source: Path, mistakes: list[str]) -> None:
    if len(mistakes) == 1:
        raise DataError(f"{source}: {mistakes[0]}")
    if mistakes:
        shown = "".join(f"\n  {mistake}" for mistake in mistakes[:MOST_MISTAKES])
        more = len(mistakes) - MOST_MISTAKES
        raise DataError(
            f"{source}: {len(mistakes)} mistakes:{shown}" + (f"\n  and {more} more" if more > 0 else "")
        )


def _run(folder: Path, values: Mapping[str, str | None], wrong: list[DataError]) -> Run | None:
    """The run of one line, or None if it has mistakes, which are added to `wrong`."""
    before = len(wrong)
    empty = [name for name in NEEDED if values[name] is None and name != "tr"]
    wrong += [DataError(f"no {name}", "write it") for name in empty]
    tr_s, onset_s, duration_s = (
        _seconds(name, values.get(name), wrong) for name in ("tr", "onset_s", "duration_s")
    )
    if tr_s is not None and tr_s <= 0:
        wrong.append(DataError(f"tr is {tr_s:g} s", "write the seconds between volumes"))
    bold, member = _bold(folder, values["bold"], wrong)
    audio, confounds = (_file(folder, name, values.get(name), wrong) for name in ("audio", "confounds"))
    if len(wrong) > before:
        return None
    try:
        if is_matrix(bold[0]):
            matrix_columns(bold[0], member)
        if tr_s is not None:
            agreed_tr_s(bold[0], tr_s, "tr is")
        elif (tr_s := header_tr_s(bold[0])) is None:
            raise DataError(f"no tr, and {bold[0].name} doesn't say it", "write the seconds between volumes")
    except DataError as error:
        wrong.append(error)
        return None
    assert audio is not None
    assert tr_s is not None
    assert onset_s is not None
    return Run(
        subject=str(values["subject"]),
        story=str(values["story"]),
        repeat=1,
        bold=bold,
        audio=audio,
        tr_s=tr_s,
        onset_s=onset_s,
        confounds=confounds,
        space=values.get("space") or space_of(parse_bids_entities(bold[0])),
        member=member,
        duration_s=duration_s,
    )


def _seconds(name: str, value: str | None, wrong: list[DataError]) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        wrong.append(DataError(f"{name} {value} is no number", "write seconds, such as 1.5"))
        return None
    return number


def _file(folder: Path, name: str, value: str | None, wrong: list[DataError]) -> Path | None:
    if value is None:
        return None
    path = folder / value
    if not is_there(path):
        wrong.append(_no_file(name, path))
    return path


def _no_file(name: str, path: Path) -> DataError:
    return DataError(f"{name} {path} is no file", "mend the path, or fetch the file")


def _bold(folder: Path, value: str | None, wrong: list[DataError]) -> tuple[tuple[Path, ...], str | None]:
    """BOLD files, and the matrix within an HDF5 file."""
    if value is None:
        return (), None
    name, _, member = value.partition(MEMBER)
    bold = _pair(folder, name) if not is_there(folder / name) else (folder / name,)
    wrong += [_no_file("bold", path) for path in bold if not is_there(path)]
    if [path.suffix == ".gii" for path in bold] not in ([False], [True, True]):
        wrong.append(DataError(f"bold {value}: surfaces come in pairs of GIFTI", "write LEFT.gii,RIGHT.gii"))
    if member and not is_matrix(bold[0]):
        wrong.append(
            DataError(f"bold {value}: only HDF5 files hold several matrices", f"drop {MEMBER}{member}")
        )
    return bold, member or None


def _pair(folder: Path, value: str) -> tuple[Path, ...]:
    """The two files of a pair, also if their names hold commas."""
    parts = value.split(",")
    for cut in range(1, len(parts)):
        left, right = (folder / ",".join(side).strip() for side in (parts[:cut], parts[cut:]))
        if is_there(left) and is_there(right):
            return (left, right)
    return tuple(folder / part.strip() for part in parts)
