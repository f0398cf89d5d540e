"""Recorded human speech and real BOLD go through every step."""

import os
from pathlib import Path

import mlflow
import pytest
from commands import edited, here, succeeds
from real_data import UnavailableError, asterisk_prompts, brainspace

from wav2bold.config import Study
from wav2bold.datasets.shards import open_shards
from wav2bold.tuning.tracking import Tracker

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real() -> tuple[Path, Path]:
    """Prompts spoken by a person, and a resting-state recording on fsaverage5."""
    try:
        prompts, bold = asterisk_prompts(), brainspace()
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    return prompts, min(bold.rglob("*.mgz"), key=lambda path: path.name)


def test_recorded_speech_and_real_bold_go_through_every_step(
    real: tuple[Path, Path], tmp_path: Path, small_ray: None
) -> None:
    speech, noise = real
    sizes = ("--subjects", 2, "--stories", 4, "--minutes", 2, "--hearing-targets", 40, "--silent-targets", 10)
    root = tmp_path
    succeeds("simulate", root / "recordings", "--speech", speech, "--noise", noise, *sizes, run=here)
    succeeds("prepare", root / "recordings", "--out", root / "shards", run=here)
    study = edited(root / "study.yaml", root / "study.yaml", search__trials=3, configuration__epochs=2)
    succeeds("sweep", study, run=here)
    succeeds("best", study, "--out", root / "best.yaml", run=here)
    succeeds("refine", study, "--config", root / "best.yaml", run=here)
    succeeds("report", study, "--out", root / "report.html", run=here)

    card = open_shards(root / "shards").card
    assert {story.seconds for story in card.stories.values()} == {120.0}
    assert "semi-synthetic" in card.name.lower()
    page = (root / "report.html").read_text()
    assert "emi-synthetic" in page  # a reader is told that the signal is simulated
    tracker = Tracker(Study.load(study))
    scores = mlflow.MlflowClient(tracker.uri).get_run(tracker.newest_sweep()).data.metrics
    for subject in ("sub-001", "sub-002"):
        shown = {way: scores[f"test.best.{subject}.{way}"] for way in ("frozen", "ridge", "head")}
        print(subject, {way: round(score, 3) for way, score in shown.items()})
        # the BOLD does hold what was heard: the history's features predict a story never seen
        assert shown["frozen"] > 0.03
        assert shown["ridge"] > 0.03
        assert all(score < 0.6 for score in shown.values())
