"""Whatever may not be read or written is named with its cure, and is no damage that fetching would mend.

The command is run as one for whom closed files are closed; for root they aren't.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import published
import pytest
import yaml
from commands import Done, contents, environment, installed
from disks import as_ordinary_user
from recordings import add_story, add_volumes, noise

from wav2bold.datasets.layouts.known import find
from wav2bold.datasets.shards import open_shards

CURE = "may not be read; let yourself read it (chmod, or ask its owner)"
OPEN = "abc"
"""Subjects of whom nothing is closed."""


@dataclass(frozen=True)
class Case:
    """closed: what may not be read, for a subject of its own.  name: as the failure is called."""

    what: str
    closed: str
    name: str = "sub-{0}_task-story{0}_run-1"


STEM = "sub-{0}/func/sub-{0}_task-story{0}_run-1"
SPACED = STEM + "_space-MNI152NLin2009cAsym_desc-preproc_bold"
CASES = [
    Case("a recording", SPACED + ".nii.gz"),
    Case("its sidecar", SPACED + ".json"),
    Case("its events", STEM + "_events.tsv"),
    Case("its confounds", STEM + "_desc-confounds_timeseries.tsv", "sub-{0}/story{0}"),
    Case("its sound", "stimuli/story{0}.wav", "story{0}"),
    Case("its folder", "sub-{0}/func", "sub-{0}/func"),
    Case("its subject's folder", "sub-{0}", "sub-{0}"),
]


def add(root: Path, subject: str) -> None:
    """A recording of a story of its own, with confounds."""
    add_story(root, f"story{subject}", 20.0, seed=ord(subject))
    path = add_volumes(root, noise(3, 4, 2, 14, seed=ord(subject)), f"sub-{subject}", f"story{subject}")
    rows = "\n".join(map(str, noise(14, seed=ord(subject))))
    name = path.name.partition("_space-")[0] + "_desc-confounds_timeseries.tsv"
    path.with_name(name).write_text(f"csf\n{rows}\n")


@contextmanager
def shut(path: Path) -> Iterator[None]:
    """Nobody may read, write or look into it."""
    before = path.stat().st_mode
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(before)


def run(*words: object, folder: Path) -> Done:
    return installed(*words, folder=folder, before=as_ordinary_user())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Recordings of which some are closed, and a study file that wants their confounds.

    Nobody asks for what a scanner wrote, which is often closed.
    """
    folder = tmp_path_factory.mktemp("closed")
    for subject in OPEN:
        add(folder / "recordings", subject)
    study = {
        "name": "x",
        "shards": "shards",
        "encoder": "x",
        "split": {"validation": ["storya"], "test": ["storyb"]},
        "cleaning": {"confounds": ["csf"]},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    raw = folder / "recordings" / "sourcedata"
    raw.mkdir()
    with ExitStack() as stack:
        stack.enter_context(shut(raw))
        for number, case in enumerate(CASES):
            add(folder / "recordings", f"{number}")
            stack.enter_context(shut(folder / "recordings" / case.closed.format(number)))
        yield folder


def one_line(done: Done) -> str:
    """What a command said that ended with a mistake of the user's."""
    assert done.code == 2, done.err
    (line,) = done.errors
    return line.removeprefix("wav2bold: ")


def test_whatever_is_closed_is_named_and_all_others_are_done(root: Path) -> None:
    done = run("prepare", "recordings", "--out", "shards", folder=root)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    told = lines[lines.index(f"{len(CASES)} failed, the others are done:") + 1 :]
    expected = [
        f"  {case.name.format(number)}: {root / 'recordings' / case.closed.format(number)}: {CURE}"
        for number, case in enumerate(CASES)
    ]
    assert sorted(told) == sorted(expected)
    assert [*open_shards(root / "shards").card.subjects] == [f"sub-{subject}" for subject in OPEN]


def test_the_first_that_is_closed_ends_a_strict_prepare(root: Path) -> None:
    first = root / "recordings" / "sub-0" / "func"
    done = run("prepare", "recordings", "--out", "strict", "--strict", folder=root)
    assert one_line(done) in {
        f"{root / 'recordings' / case.closed.format(number)}: {CURE}" for number, case in enumerate(CASES)
    }
    assert first.is_dir()
    assert not (root / "strict").exists()


SOURCES = [
    published.bids_volumes,
    published.bids_series,
    published.narratives,
    published.lebel,
    published.manifest,
]
FIND = """
import json, sys
from pathlib import Path
from wav2bold.datasets.layouts.known import find
from wav2bold.errors import DataError
told = {}
for source in sys.argv[1:]:
    failed = []
    try:
        runs = find(Path(source), refuse=lambda name, error: failed.append(str(error))).runs
    except DataError as error:
        runs = []
        failed.append(str(error))
    told[source] = [[[*map(str, run.bold)] for run in runs], failed]
print(json.dumps(told))
"""


def test_every_layout_names_a_closed_folder_and_finds_the_others(tmp_path: Path) -> None:
    expected = {}
    with ExitStack() as stack:
        for make in SOURCES:
            source = make(tmp_path / make.__name__).source
            runs = find(source).runs
            folder = runs[0].bold[0].parent
            others = [[*map(str, run.bold)] for run in runs if folder not in run.bold[0].parents]
            expected[str(source)] = (others, f"{folder}: {CURE}")
            stack.enter_context(shut(folder))
        words = [*as_ordinary_user(), sys.executable, "-c", FIND, *expected]
        done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) == len(SOURCES)
    for source, (found, failed) in told.items():
        others, line = expected[source]
        assert found == others, source
        assert failed, source
        assert {said[-len(line) :] for said in failed} == {line}, source


@dataclass(frozen=True)
class Shut:
    """make: gives what is closed, in a folder.  words: of the command.  says: its line after that path."""

    what: str
    make: Callable[[Path], Path]
    words: str
    says: str = CURE


def made(name: str, *, folder: bool = False) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        path = root / name
        if folder:
            path.mkdir()
            (path / "study.yaml").write_text("name: x")
        else:
            path.write_text("subject\tstory\n")
        return path

    return make


NOT_WRITTEN = "can't be written into; let yourself write there, or choose another --out"
QUICK = [
    Shut("the recordings", made("recordings", folder=True), "prepare recordings --out out"),
    Shut("the recordings, listed", made("recordings", folder=True), "manifest recordings"),
    Shut("a manifest", made("runs.tsv"), "manifest runs.tsv"),
    Shut("--out", made("out", folder=True), "prepare . --out out", NOT_WRITTEN),
    Shut("what is above --out", made("out", folder=True), "prepare . --out out/a/b", NOT_WRITTEN),
    Shut(
        "a study file",
        made("study.yaml"),
        "best study.yaml",
    ),
]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.what)
def test_a_closed_path_on_the_command_line_is_named_before_any_work(case: Shut, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    before = contents(tmp_path)
    with shut(path):
        line = one_line(run(*case.words.split(), folder=tmp_path))
    assert line.removeprefix(f"{tmp_path}/") == f"{path.name}: {case.says}"
    assert contents(tmp_path) == before


def test_shards_that_may_not_be_changed_are_named_and_stay(root: Path, tmp_path: Path) -> None:
    """Their folder may be written into, and what is in it may not."""
    for subject in OPEN:
        add(tmp_path / "recordings", subject)
    shards = tmp_path / "shards"
    (shards / "bold").mkdir(parents=True)
    (shards / ".wav2bold").write_text("wav2bold shards, schema 1\n")
    with shut(shards / "bold"):
        done = run("prepare", "recordings", "--out", "shards", folder=tmp_path)
        line = one_line(done)
    assert line.startswith(f"{shards / 'bold'}")
    assert line.endswith("Permission denied; let yourself read and write there, or choose another --out")
    assert {path.name for path in shards.iterdir()} <= {".wav2bold", ".aside", "bold", "stimuli", "targets"}
