"""The main job: refinement gains on a story that nothing else touched, and everything is remembered."""

import functools
import json
import shutil
from pathlib import Path

import mlflow
import pytest
from commands import contents, edited, succeeds
from mlflow.entities import Run
from transformers import AutoFeatureExtractor, Wav2Vec2Model

from wav2bold import demo
from wav2bold.config import PARAMETER_TYPES, Configuration, Simulation, Study
from wav2bold.datasets.shards import open_shards
from wav2bold.steps import best
from wav2bold.tuning.mlflow_server import tracking_uri

pytestmark = pytest.mark.slow


def runs(study: Study, kind: str) -> list[Run]:
    """Runs of one kind as a plain MLflow client sees them, oldest first."""
    client = mlflow.MlflowClient(tracking_uri(study))
    experiment = client.get_experiment_by_name(study.name)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`wav2bold.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.info.start_time)


@pytest.fixture(scope="module")
def tested(learned: Study) -> dict[str, float]:
    """What `report` measured on the test story."""
    (sweep,) = runs(learned, "sweep")
    return dict(sweep.data.metrics)


@pytest.mark.parametrize("subject", ["sub-001", "sub-002"])
@pytest.mark.parametrize("way", ["ridge", "head"])
def test_refined_beats_frozen_on_the_story_held_out(tested: dict[str, float], subject: str, way: str) -> None:
    name = f"test.best.{subject}"
    assert tested[f"{name}.{way}"] > tested[f"{name}.frozen"] + 0.01
    assert tested[f"{name}.p_{way}"] < 0.01


@pytest.mark.parametrize("subject", ["sub-001", "sub-002"])
def test_no_score_is_above_the_noise_ceiling(learned: Study, tested: dict[str, float], subject: str) -> None:
    options = Simulation.model_validate(
        json.loads((learned.results / "recordings/truth/truth.json").read_text())["options"]
    )
    hearing = options.hearing_targets / (options.hearing_targets + options.silent_targets)
    measured = float(open_shards(learned.shards).targets(subject)["ceiling"].mean())
    assert measured == pytest.approx(options.ceiling * hearing, abs=0.08)
    for way in ("frozen", "ridge", "head"):
        assert tested[f"test.best.{subject}.{way}"] < min(measured, options.ceiling * hearing)


def test_layers_that_were_ruined_regain_more_than_their_input(tested: dict[str, float]) -> None:
    first, last = (
        [tested[f"test.layers.{encoder}.{state}"] for encoder in ("frozen", "refined")] for state in (0, 2)
    )
    assert last[0] < first[0]
    assert last[1] - last[0] > first[1] - first[0] + 0.01


@pytest.mark.parametrize("way", ["ridge", "head"])
def test_pure_noise_gains_nothing(tested: dict[str, float], way: str) -> None:
    assert abs(tested["test.best.sub-null1.frozen"]) < 0.03
    assert abs(tested[f"test.best.sub-null1.gain_{way}"]) < 0.02
    assert tested[f"test.best.sub-null1.p_{way}"] > 0.01


def test_best_history_is_within_two_trs_of_the_truth(learned: Study) -> None:
    assert abs(best(learned).configuration.history - Simulation().history) <= 2


def test_every_trial_is_a_run_below_the_sweep(learned: Study) -> None:
    (sweep,) = runs(learned, "sweep")
    digest = open_shards(learned.shards).card.digest
    assert sweep.info.status == "FINISHED"
    assert sweep.data.params["dataset_digest"] == digest
    assert [one.dataset.digest for one in sweep.inputs.dataset_inputs] == [digest[:36]]
    trials = runs(learned, "trial")
    assert sorted(int(run.data.params["number"]) for run in trials) == list(range(8))
    client = mlflow.MlflowClient(tracking_uri(learned))
    for run in trials:
        assert run.data.tags["mlflow.parentRunId"] == sweep.info.run_id
        assert run.info.status == "FINISHED"
        assert set(Configuration.model_fields) | {"number", "subjects"} <= run.data.params.keys()
        stopped = run.data.tags["wav2bold.stopped_early"] == "true"
        for metric in ("score", "best_score", "seconds"):
            steps = [one.step for one in client.get_metric_history(run.info.run_id, metric)]
            assert steps == list(range(len(steps)))
            epochs = learned.configuration.epochs if run.data.params["unfrozen"] != "nothing" else 0
            assert stopped or len(steps) == epochs + 1
    assert any(run.data.tags["wav2bold.stopped_early"] == "true" for run in trials)


def test_the_first_trial_is_the_papers_configuration(learned: Study) -> None:
    first = next(run for run in runs(learned, "trial") if run.data.params["number"] == "0")
    assert first.data.params["history"] == "6"
    assert first.data.params["unfrozen"] == "attention+feed_forward"
    for kind in PARAMETER_TYPES:
        assert first.data.params.get(f"unfrozen.{kind}") == (
            "all" if kind in ("attention", "feed_forward") else None
        )
    for name in ("head_l2", "encoder_lr", "head_lr", "epochs", "batch"):
        assert first.data.params[name] == str(getattr(learned.configuration, name))


def test_best_asks_mlflow_alone(learned: Study, tmp_path: Path) -> None:
    shutil.copy(learned.results / "mlflow.db", tmp_path)
    # no shards, no encoder, none of Ray's files
    study = edited(learned.results / "study.yaml", tmp_path / "study.yaml", encoder="gone", shards="gone")
    succeeds("best", study, "--out", tmp_path / "best.yaml")
    assert Configuration.load(tmp_path / "best.yaml") == Configuration.load(learned.results / "best.yaml")


def test_refined_encoders_load_with_transformers(learned: Study) -> None:
    folders = sorted((learned.results / "refined").iterdir())
    assert [folder.name for folder in folders] == ["sub-001", "sub-002", "sub-null1"]
    for folder in folders:
        _, loading = Wav2Vec2Model.from_pretrained(folder, output_loading_info=True)
        assert not loading["missing_keys"]
        assert AutoFeatureExtractor.from_pretrained(folder).sampling_rate == 16_000
        assert [path.name for path in folder.iterdir() if "partial" in path.name] == []


def test_refine_keeps_what_was_refined_already(learned: Study) -> None:
    before = contents(learned.results / "refined")
    done = succeeds("refine", learned.results / "study.yaml", "--config", learned.results / "best.yaml")
    assert "0 subjects refined, 3 kept" in done.out
    assert contents(learned.results / "refined") == before


def test_demo_goes_through_all_steps_and_can_be_gone_on_with(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small_ray: None,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    small = functools.partial(
        Simulation, subjects=1, stories=3, minutes=1.0, hearing_targets=20, silent_targets=4
    )
    monkeypatch.setattr(demo, "Simulation", small)
    first = demo.demo(tmp_path / "demo", seed=1)
    shown = capsys.readouterr().out
    for step in ("simulate", "prepare", "sweep", "best", "refine", "report"):
        assert f"$ wav2bold {step}" in shown
    assert (tmp_path / "demo" / "report.html").is_file()
    assert set(first.best) == set(first.paper) == {"sub-001"}
    assert len(first.trials) == 12
    recordings = contents(tmp_path / "demo" / "recordings")
    second = demo.demo(tmp_path / "demo", seed=1)
    assert "kept from an earlier demo" in capsys.readouterr().out
    assert contents(tmp_path / "demo" / "recordings") == recordings
    assert second.winner.configuration == first.winner.configuration
