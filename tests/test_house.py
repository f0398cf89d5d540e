"""The house rules that no linter holds: what an import costs, and what survives a trip through Ray."""

import inspect
import json
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import wav2bold
from wav2bold import errors

ROOT = Path(__file__).parents[1]
HEAVY = ["ray", "mlflow", "optuna", "nibabel", "nilearn"]
MODULES = sorted(module.name for module in pkgutil.walk_packages(wav2bold.__path__, "wav2bold."))
TRAINABLES = [name for name in MODULES if name.startswith("wav2bold.trainables")]


def loaded_by(modules: list[str], watched: list[str], cwd: Path) -> list[str]:
    """Which of the watched packages a fresh Python has loaded after importing the modules."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {watched!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_training_core_loads_no_ray_and_no_tracking(tmp_path: Path) -> None:
    assert len(TRAINABLES) > 1
    assert loaded_by(TRAINABLES, [*HEAVY, "peft"], tmp_path) == []  # peft comes with the first adapter


def test_the_study_file_and_the_errors_cost_no_framework(tmp_path: Path) -> None:
    light = ["wav2bold", "wav2bold.config", "wav2bold.errors"]
    assert loaded_by(light, [*HEAVY, "torch", "transformers", "pandas", "scipy"], tmp_path) == []


def test_a_report_waits_for_its_tests_without_what_they_compute_and_it_draws_with(tmp_path: Path) -> None:
    computing, drawing = ["torch", "transformers", "himalaya"], ["matplotlib", "sklearn"]
    assert loaded_by(["wav2bold.report.report"], computing + drawing, tmp_path) == []
    assert loaded_by(["wav2bold.report.page"], computing, tmp_path) == []


def test_a_watch_that_sees_nothing_would_be_noticed(tmp_path: Path) -> None:
    assert loaded_by(["wav2bold.cluster.connect"], HEAVY, tmp_path) == ["ray"]


def test_what_draws_brains_is_begun_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    assert loaded_by(["wav2bold.pages.painter"], [*HEAVY, "matplotlib", "numpy", "pandas"], tmp_path) == []


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_its_purpose_or_is_empty(name: str) -> None:
    path = ROOT / Path(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = file.read_text(encoding="utf-8")
    assert not text if file.name == "__init__.py" else text.startswith('"""')


def exceptions() -> list[Exception]:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(found) >= 7
    return [
        kind((("sub-001/one", "no sound"), ("sub-002/one", "too short")))
        if kind is errors.RunsFailed
        else kind("sub-001: BOLD ends early", "check onset_s")
        for kind in found
    ]


@pytest.mark.parametrize("error", exceptions(), ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args


def test_errors_come_out_of_a_ray_task_and_hugging_face_is_not_shadowed_in_one(tmp_path: Path) -> None:
    # In a Python of its own: other tests share a Ray with settings of theirs.
    code = """
import importlib.util, ray
from wav2bold.cluster.connect import connected
from wav2bold.errors import DataError

@ray.remote(max_retries=0)
def where():
    import wav2bold.datasets.runs
    spec = importlib.util.find_spec("datasets")
    return (spec and spec.origin or "absent"), wav2bold.datasets.runs.__name__

@ray.remote(max_retries=0)
def fails():
    raise DataError("sub-001: too short", "check onset_s")

with connected(cpus=1, object_store_mb=80):
    origin, ours = ray.get(where.remote())
    print("wav2bold" in origin, ours)
    try:
        ray.get(fails.remote())
    except DataError as error:
        print(error.cause)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines() == [
        "False wav2bold.datasets.runs",
        "sub-001: too short; check onset_s",
    ], done.stderr


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    mine = [
        "/".join(["", *parts]) + "/" for parts in (["root"], ["work"], ["Users"], ["home", "runner"], ["mnt"])
    ]
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and sounds
        # A path begins after a space or a quote; "http://host/work/" or "a/root/b" are none.
        found += [
            f"{path.relative_to(ROOT)}: {place}"
            for place in mine
            for before in " '\"=(`\n"
            if before + place in text
        ]
    assert found == []


def test_no_test_folder_shadows_a_package() -> None:
    assert [path for path in tracked() if path.name == "__init__.py" and "tests" in path.parts] == []
