"""A command in a process that needn't import is the installed one in all that tests look at."""

import subprocess
from pathlib import Path

import pytest
from commands import installed, wav2bold


@pytest.mark.parametrize("words", ["options", "best none.yaml", "sweeep", "simulate --help"])
def test_it_shows_and_ends_as_the_installed_one(words: str, tmp_path: Path) -> None:
    assert wav2bold(*words.split(), folder=tmp_path) == installed(*words.split(), folder=tmp_path)


def test_it_has_the_folder_and_the_environment_that_it_was_given(tmp_path: Path) -> None:
    study = "name: x\nshards: x\nencoder: x\nsplit: {validation: [a], test: [b]}\n"
    (tmp_path / "study.yaml").write_text(study)
    done = wav2bold("runs", "study.yaml", folder=tmp_path, env={"MLFLOW_TRACKING_URI": "ftp://nowhere"})
    assert "MLflow at ftp://nowhere can't be used" in done.err
    assert "ftp" not in wav2bold("runs", "study.yaml", folder=tmp_path).err


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        wav2bold("simulate", tmp_path / "out", timeout_s=0.1)
    assert wav2bold("--version", folder=tmp_path).code == 0
