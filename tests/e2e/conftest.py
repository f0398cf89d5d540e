"""Studies that several tests look at, each made once by the command."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from commands import Made, edited, installed, succeeds
from filelock import FileLock
from listeners import RATE_HZ, speech

from wav2bold.config import Study


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills, once for all processes in which pytest runs tests side by side."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # each worker has a folder of its own in it
    folder, whole = shared / name, shared / f"{name}-is-whole"
    with FileLock(shared / f"{name}.lock"):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a try that failed
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two people and a pure-noise one hear 4 stories of 1.2 minutes: for all that isn't about learning."""
    root = made_once(tmp_path_factory, "tiny", _make_tiny)
    return Made(root / "recordings", root / "shards", root / "whole.yaml")


def _make_tiny(root: Path) -> None:
    (root / "clips").mkdir()
    for number in range(10):
        soundfile.write(root / "clips" / f"{number}.wav", speech(40, number), RATE_HZ)
    few = ("--subjects", 2, "--null-subjects", 1, "--stories", 4, "--minutes", 1.2)
    small = ("--hearing-targets", 24, "--silent-targets", 6, "--seed", 3)
    succeeds("simulate", root / "recordings", "--speech", root / "clips", *few, *small)
    succeeds("prepare", root / "recordings", "--out", root / "shards")
    edited(
        root / "study.yaml",
        root / "whole.yaml",
        shards=str(root / "shards"),
        encoder=str(root / "recordings" / "encoder"),
        configuration__epochs=2,
        search__trials=4,
    )


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study gone through to its report: 2 people and a pure-noise one, 5 stories of 5 minutes, 8 trials.

    By the installed command, which imports whatever it needs. Sizes for which the claims hold with room: with
    seeds 0, 1 and 2 every gain was 0.046 to 0.062 at p <= 1e-4, and the noise subject's within 0.005 of none.
    With 3 minutes p was up to 0.012. One trial at a time: beside the first, the second would go on to the
    last epoch, and be of no more use than those that are stopped.
    """
    return Study.load(made_once(tmp_path_factory, "learned", _learn) / "study.yaml")


def _learn(root: Path) -> None:
    sizes = ("--subjects", 2, "--null-subjects", 1, "--hearing-targets", 120, "--silent-targets", 20)
    succeeds("simulate", root / "recordings", *sizes, run=installed)
    succeeds("prepare", root / "recordings", "--out", root / "shards", run=installed)
    study = edited(root / "study.yaml", root / "study.yaml", search__trials=8, search__parallel=1)
    succeeds("sweep", study, run=installed)
    succeeds("best", study, "--out", root / "best.yaml", run=installed)
    succeeds("refine", study, "--config", root / "best.yaml", run=installed)
    succeeds("report", study, "--out", root / "report.html", run=installed)
