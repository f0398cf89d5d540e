"""The control that hears the stimuli alone, from `refine --pretrain` to its column on the report's page."""

from pathlib import Path

import mlflow
import pytest
from commands import Made, here, succeeds
from parsed import Parsed

from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.datasets.splits import split_stories
from wav2bold.evaluation.evaluate import evaluate
from wav2bold.trainables.encoder import load_encoder
from wav2bold.tuning.outbox import opened
from wav2bold.tuning.workshop import activation_store, longest_history

WHO = "sub-001"
DIGITS = 5.01e-4
"""Half of the last decimal that the page shows, and a rounding."""


@pytest.fixture(scope="module")
def folder(tiny: Made, tmp_path_factory: pytest.TempPathFactory, small_ray: None) -> Path:
    """A study of one trial, whose encoder is refined for one person and continued on the sound alone."""
    root = tmp_path_factory.mktemp("control")
    study = tiny.study_at(root, search__trials=1, configuration__epochs=1)
    best = root / "best.yaml"
    succeeds("sweep", study, run=here)
    succeeds("best", study, "--out", best, run=here)
    chosen = ("--config", best, "--subjects", WHO)
    succeeds("refine", study, *chosen, run=here)
    succeeds("refine", study, *chosen, "--pretrain", run=here)
    succeeds("report", study, "--out", root / "report.html", "--no-layers", "--no-interactive", run=here)
    return root


def column(table: list[list[str]], name: str) -> dict[str, float]:
    """Of Table 1, by subject; its last column is the control's."""
    assert table[0][-1] == name
    return {row[0]: float(row[-1].replace("\N{MINUS SIGN}", "-")) for row in table[2:]}


def test_the_controls_column_holds_the_scores_of_its_encoder(folder: Path) -> None:
    told = column(Parsed((folder / "report.html").read_text()).tables[0], "Stimuli alone")
    assert set(told) == {WHO}
    encoder = folder / "pretrained" / WHO
    assert Configuration.load(encoder / "config.yaml").objective == "pretrain"
    study = Study.load(folder / "study.yaml")
    shards = open_shards(study.shards)
    stories = split_stories(study.split, shards.card)
    frozen, store = load_encoder(study.encoder), activation_store(study)
    truth = {
        kind: evaluate(
            frozen, shards, store, stories, WHO, folder / kind / WHO, longest_history(study)
        ).scores
        for kind in ("pretrained", "refined")
    }
    assert told[WHO] == pytest.approx(truth["pretrained"]["ridge"], abs=DIGITS)
    assert abs(truth["pretrained"]["ridge"] - truth["refined"]["ridge"]) > 2 * DIGITS  # not to be mixed up


def test_the_control_has_a_row_of_gains_over_the_same_frozen_encoder(folder: Path) -> None:
    rows = {row[1]: row[2:] for row in Parsed((folder / "report.html").read_text()).tables[1][2:]}
    assert set(rows) == {"best", "stimuli"}
    assert rows["stimuli"][0] == rows["best"][0]
    assert rows["stimuli"][1:3] != rows["best"][1:3]


def test_mlflow_remembers_the_controls_scores_beside_the_sweep(folder: Path) -> None:
    study = Study.load(folder / "study.yaml")
    tracker = opened(study, make=False)
    client = mlflow.MlflowClient(tracker.uri)
    metrics = client.get_run(tracker.newest_sweep()).data.metrics
    told = column(Parsed((folder / "report.html").read_text()).tables[0], "Stimuli alone")
    assert metrics[f"test.pretrained.{WHO}.ridge"] == pytest.approx(told[WHO], abs=DIGITS)
