"""Under what a sweep or refinement is done: code, libraries, machines."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wav2bold.cluster.shape import Shape

LIBRARIES = (
    "wav2bold",
    "torch",
    "transformers",
    "ray",
    "optuna",
    "himalaya",
    "peft",
    "mlflow",
    "numpy",
    "pyarrow",
)
COMMIT = "mlflow.source.git.commit"
"""Where MLflow's page looks for it."""
GIT_ANSWERS_S = 10.0


def circumstances(folder: Path, shape: Shape) -> dict[str, str]:
    """Tags of a run: the commit of a working folder and whether it was changed since, versions, the cluster.

    A folder without git has no commit. Files that git doesn't know count for nothing: results are some.
    """
    return _code(folder) | _versions() | _machines(shape)


def _code(folder: Path) -> dict[str, str]:
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changed is None:
        return {}
    return {COMMIT: commit, "wav2bold.git_dirty": str(bool(changed)).lower()}


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None if there is no git, no repository, or no commit."""
    command = ["git", "-C", str(folder), "--no-optional-locks", *words]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=GIT_ANSWERS_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {"library.python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[f"library.{name}"] = version(name)
        except PackageNotFoundError:  # run from a folder that was never installed
            continue
    return found


def _machines(shape: Shape) -> dict[str, str]:
    memory = sum(each.count * each.memory for each in shape.machines if each.memory is not None)
    return {
        "cluster.nodes": str(shape.size),
        "cluster.cpus": f"{shape.cpus:g}",
        "cluster.gpus": f"{shape.gpus:g}",
        "cluster.memory_gb": f"{memory / 1e9:.1f}",
    }
