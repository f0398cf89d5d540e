"""SUPERB over Ray: the same as one after the other, remembered, and never done twice."""

import json
from pathlib import Path

import corpora
import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from wav2bold import cli, steps
from wav2bold.errors import DataError, EncoderError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.superb.protocol import Options
from wav2bold.trainables.superb.scoring import score_tasks

SHORT = Options(updates=30, rates=(1e-2, 1e-3))
TASKS = ("ks", "er")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    corpora.speech_commands(root, takes=3)
    corpora.iemocap(root, takes=2)
    return root


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("encoders")
    return [corpora.save_hearer(root / name, seed) for seed, name in enumerate(("before", "after"))]


@pytest.fixture(scope="module")
def done(
    small_ray: None, data: Path, encoders: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, object]:
    out = tmp_path_factory.mktemp("superb")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return out, steps.superb(encoders, TASKS, data, out, SHORT)


def test_parallel_equals_serial(
    done: tuple[Path, object], data: Path, encoders: list[Path], tmp_path: Path
) -> None:
    _, found = done
    assert [(row.task, Path(row.encoder).name) for row in found.rows] == [
        (task, name) for task in TASKS for name in ("before", "after")
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for row in found.rows:
            encoder = load_encoder(row.encoder)
            store = ActivationStore(tmp_path / "store")
            alone = score_tasks(encoder, [row.task], data, tmp_path / encoder.digest, store, SHORT)
            assert alone[row.task][0].to_json() == row.score.to_json()
    finally:
        torch.set_num_threads(threads)


def test_the_change_is_against_the_first_encoder(done: tuple[Path, object]) -> None:
    out, found = done
    told = json.loads((out / "results.json").read_text())
    for first, other in (found.rows[:2], found.rows[2:]):
        assert first.change is None
        assert other.change.value == pytest.approx(other.score.value - first.score.value)
        assert other.change.low <= other.change.value <= other.change.high
    assert [one["value"] for one in told] == [row.score.value for row in found.rows]
    lines = (out / "results.csv").read_text().splitlines()
    assert lines[0].startswith("task,metric,encoder,score,low,high,change")
    assert len(lines) == 5


def test_every_score_is_a_run_with_its_rate_and_weights(done: tuple[Path, object]) -> None:
    out, found = done
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("superb")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags["wav2bold.kind"] == "superb")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {(run.data.params["task"], run.data.params["encoder"]) for run in children} == {
        (row.task, row.encoder) for row in found.rows
    }
    for run in children:
        weights = [value for name, value in run.data.metrics.items() if name.startswith("weight.")]
        assert sum(weights) == pytest.approx(1)
        updates = {"ks": "30 of 200,000", "er": "30 of 30,000"}[run.data.params["task"]]
        assert run.data.params["deviation.updates"] == updates
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["result.json"]


def test_what_is_done_is_not_done_again_and_what_fails_leaves_the_others(
    done: tuple[Path, object], data: Path, encoders: list[Path]
) -> None:
    out, found = done
    gone = str(out / "nothing")
    again = steps.superb([*encoders, gone], TASKS, data, out, SHORT)
    assert again.kept == 4
    assert [row.score.to_json() for row in again.rows] == [row.score.to_json() for row in found.rows]
    assert [name for name, _ in again.failed] == [f"{task} with {gone}" for task in TASKS]
    assert all("no such folder" in reason for _, reason in again.failed)
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("superb").experiment_id], "status = 'FAILED'")
    assert len(runs) == 1 + 2, "the two, and the command that they were part of"


def test_nothing_but_mistakes_is_one_mistake(
    small_ray: None, data: Path, encoders: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match="no such folder"):
        steps.superb([tmp_path / "nothing"], ["ks"], data, tmp_path / "out", SHORT)
    with pytest.raises(DataError, match=r"^ic: there is no .*train_data\.csv; ask for"):
        steps.superb(encoders, ["ks", "ic"], data, tmp_path / "out", SHORT)


def test_the_command_hands_on_what_is_chosen_as_published(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Options] = []

    def taken(
        encoders: object,
        tasks: object,
        data: object,
        out: object,
        options: Options,
        *rest: object,
        **more: object,
    ) -> None:
        given.append(options)
        raise DataError("stop", "here")

    monkeypatch.setattr(steps, "superb", taken)
    words = ["superb", "x", "--data", str(tmp_path), "--out", str(tmp_path), "--tasks", "asv,sd"]
    for more in ([], ["--as-published"]):
        CliRunner().invoke(cli.app, [*words, *more])
    assert given == [Options(), Options(as_published=True)]


def test_the_command_shows_scores_changes_and_weights(
    done: tuple[Path, object], data: Path, encoders: list[Path]
) -> None:
    out, found = done
    words = ["superb", *map(str, encoders), "--data", str(data), "--out", str(out), "--tasks", "ks,er"]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(
        cli.app, [*words, "--updates", "30", "--rates", "1e-2,1e-3", "--json"]
    )
    assert shown.exit_code == 0, shown.output
    assert [one["value"] for one in json.loads(shown.stdout)] == [row.score.value for row in found.rows]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(
        cli.app, [*words, "--updates", "30", "--rates", "1e-2,1e-3"]
    )
    assert "4 scores, 4 of them kept" in shown.stderr
