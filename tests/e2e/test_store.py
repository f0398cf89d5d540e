"""The main job with its shards in a store: every step that reads them takes the URL."""

from pathlib import Path

import pytest
import yaml
from commands import Made, edited, here, succeeds
from stores import new_bucket


@pytest.mark.slow
def test_a_study_whose_shards_are_on_s3_goes_through(
    tiny: Made, tmp_path: Path, object_store: str, small_ray: None
) -> None:
    out = new_bucket("whole-study")
    done = succeeds("prepare", tiny.recordings, "--out", out, folder=tmp_path, run=here)
    assert f"Edit {tmp_path / 'study.yaml'}" in done.out
    study = edited(
        tmp_path / "study.yaml", tmp_path / "study.yaml", search__trials=1, configuration__epochs=0
    )
    assert yaml.safe_load(study.read_text())["shards"] == str(out)
    succeeds("sweep", study, run=here)
    succeeds("best", study, "--out", tmp_path / "best.yaml", run=here)
    succeeds("refine", study, "--config", tmp_path / "best.yaml", run=here)
    succeeds("report", study, "--out", tmp_path / "report.html", run=here)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    again = succeeds("prepare", tiny.recordings, "--out", out, folder=tmp_path, run=here)
    assert "0 shards written" in again.out
