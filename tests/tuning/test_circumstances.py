"""A run tells under what it was done."""

import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from wav2bold.cluster.shape import Machines, Shape
from wav2bold.tuning.circumstances import COMMIT, circumstances
from wav2bold.tuning.footprint import Footprint

SHAPE = Shape("a test", (Machines("big", 2, 32.0, 4.0, 256e9), Machines("small", 1, 8.0, 0.0, None)))


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=listener", "-c", "user.email=listener@example.org")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_the_commit_and_whether_it_was_changed_since_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert COMMIT not in circumstances(tmp_path, SHAPE)
    git(tmp_path, "init", "-q")
    assert COMMIT not in circumstances(tmp_path, SHAPE)  # no commit yet
    (tmp_path / "study.yaml").write_text("name: one\n")
    git(tmp_path, "add", "study.yaml")
    git(tmp_path, "commit", "-qm", "Begin")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mlflow.db").write_text("unknown to git")
    found = circumstances(tmp_path / "results", SHAPE)
    assert found[COMMIT] == git(tmp_path, "rev-parse", "HEAD")
    assert found["wav2bold.git_dirty"] == "false"
    (tmp_path / "study.yaml").write_text("name: two\n")
    assert circumstances(tmp_path, SHAPE)["wav2bold.git_dirty"] == "true"


def test_a_machine_without_git_tells_of_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not any("git" in key for key in circumstances(tmp_path, SHAPE))


def test_versions_and_machines_are_told(tmp_path: Path) -> None:
    found = circumstances(tmp_path, SHAPE)
    for name in ("torch", "ray", "himalaya", "mlflow", "transformers"):
        assert found[f"library.{name}"] == version(name)
    told = {key: value for key, value in found.items() if key.startswith("cluster.")}
    assert told == {
        "cluster.nodes": "3",
        "cluster.cpus": "72",
        "cluster.gpus": "8",
        "cluster.memory_gb": "512.0",
    }


def test_a_footprint_tells_what_was_done_since_it_was_asked() -> None:
    asked = Footprint()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    busy = asked.figures()
    time.sleep(0.3)
    idle = asked.figures()
    assert busy["system/trial_cpu_percent"] > idle["system/trial_cpu_percent"]
    held = np.ones(25_000_000)  # 200 MB
    assert asked.figures()["system/trial_memory_mb"] - idle["system/trial_memory_mb"] > 150
    assert held.sum() == 25_000_000
