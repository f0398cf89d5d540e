"""The main job with its shards in a store: every step that reads them takes the URL."""

from pathlib import Path

import pytest
import yaml
from commands import Made, edited, succeeds
from stores import new_bucket


@pytest.mark.slow
def test_a_study_whose_shards_are_on_s3_goes_through(tiny: Made, tmp_path: Path, object_store: str) -> None:
    out = new_bucket("whole-study")
    done = succeeds("prepare", tiny.recordings, "--out", out, folder=tmp_path)
    assert f"Edit {tmp_path / 'study.yaml'}" in done.out
    study = edited(
        tmp_path / "study.yaml", tmp_path / "study.yaml", search__trials=1, configuration__epochs=0
    )
    assert yaml.safe_load(study.read_text())["shards"] == str(out)
    succeeds("sweep", study)
    succeeds("best", study, "--out", tmp_path / "best.yaml")
    succeeds("refine", study, "--config", tmp_path / "best.yaml")
    succeeds("report", study, "--out", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert "0 shards written" in succeeds("prepare", tiny.recordings, "--out", out, folder=tmp_path).out
