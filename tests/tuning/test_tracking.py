"""What goes into MLflow comes out of it, from a file and from a server alike."""

import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import made_up
import mlflow
import pytest
import yaml
from servers import free_port, served
from sqlalchemy import Engine, event

from wav2bold.config import Configuration, Lora, Study
from wav2bold.datasets.shards import DatasetCard
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.mlflow_server import default_uri, tracking_uri
from wav2bold.tuning.remembered import flat
from wav2bold.tuning.tracking import Tracker

OTHER = Configuration(
    history=3,
    unfrozen={"attention": (1, 1), "conv": None},
    lora={"targets": ("feed_forward",)},
    head_l2=0.5,
    encoder_lr=2e-4,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server, on loopback."""
    folder = tmp_path_factory.mktemp("server")
    with served(folder, f"sqlite:///{folder / 'server.db'}", free_port()) as uri:
        yield uri


@pytest.fixture(params=["file", "server"])
def study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of its own name, remembered in a file beside it or on a server."""
    return made_up.study_remembered(request, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def card() -> DatasetCard:
    return made_up.findings().card


def test_a_sweep_is_read_back_as_it_was(study: Study, card: DatasetCard) -> None:
    tracker = Tracker(study)
    sweep = tracker.begin("sweep", "sweep", study, card)
    given = {1: OTHER, 0: study.configuration}
    for number, configuration in given.items():
        run = tracker.begin_trial("trial", f"trial {number}", sweep, configuration, {"number": number})
        for epoch, score in enumerate((0.1, 0.3, 0.2)):
            tracker.metrics(run, {"score": score + number, "loss": math.nan, "seconds": epoch + 1.0}, epoch)
        tracker.end(run)
    unfinished = tracker.begin_trial("trial", "trial 2", sweep, OTHER, {"number": 2})
    tracker.end(unfinished, "KILLED")

    again = Tracker(study, make=False)
    assert again.newest_sweep() == sweep
    first, second, third = again.trials(sweep)
    assert (first.configuration, second.configuration) == (study.configuration, OTHER)
    assert [trial.status for trial in (first, second, third)] == ["FINISHED", "FINISHED", "KILLED"]
    assert first.scores == pytest.approx((0.1, 0.3, 0.2))
    assert second.best_score == pytest.approx(1.3)
    assert second.seconds == 3.0
    assert third.scores == ()
    assert math.isnan(third.best_score)


def test_a_plain_client_finds_parameters_data_and_the_study_file(study: Study, card: DatasetCard) -> None:
    tracker = Tracker(study)
    sweep = tracker.begin("sweep", "sweep", study, card)
    trial = tracker.begin_trial("trial", "trial 7", sweep, OTHER, {"number": 7, "subjects": "sub-001"})
    client = mlflow.MlflowClient(tracker.uri)
    parent, child = client.get_run(sweep), client.get_run(trial)
    assert parent.data.params["dataset_digest"] == card.digest
    assert [one.dataset.digest for one in parent.inputs.dataset_inputs] == [card.digest[:36]]
    assert child.data.tags["mlflow.parentRunId"] == sweep
    assert child.data.params["history"] == "3"
    assert child.data.params["unfrozen"] == "attention+conv"
    assert child.data.params["unfrozen.attention"] == "1-1"
    assert child.data.params["unfrozen.conv"] == "all"
    file = mlflow.artifacts.download_artifacts(
        run_id=sweep, artifact_path="study.yaml", tracking_uri=tracker.uri
    )
    assert yaml.safe_load(Path(file).read_text())["name"] == study.name


def test_files_and_folders_come_back(study: Study, card: DatasetCard, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    tracker = Tracker(study)
    run = tracker.begin("refine", "refine", study, card)
    tracker.artifact(run, tmp_path / "encoder", "encoder")
    folder = mlflow.artifacts.download_artifacts(
        run_id=run, artifact_path="encoder", tracking_uri=tracker.uri, dst_path=str(tmp_path / "back")
    )
    assert (Path(folder) / "config.json").read_text() == "{}"


def test_only_sweeps_of_this_study_count(study: Study, card: DatasetCard) -> None:
    tracker = Tracker(study)
    tracker.begin("refine", "refine", study, card)
    with pytest.raises(TrackingError, match="remembers no sweep") as raised:
        tracker.newest_sweep()
    assert study.name in str(raised.value)
    older = tracker.begin("sweep", "older", study, card)
    time.sleep(0.01)  # MLflow's clock has milliseconds
    newer = tracker.begin("sweep", "newer", study, card)
    tracker.begin_trial("trial", "trial 0", older, OTHER, {"number": 0})
    assert tracker.newest_sweep() == newer
    assert tracker.trials(newer) == []
    assert len(tracker.trials(older)) == 1


def test_mlflows_page_opens_on_the_table_of_runs(study: Study) -> None:
    tracker = Tracker(study)
    experiment = mlflow.MlflowClient(tracker.uri).get_experiment_by_name(study.name)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_servers_address_in_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = made_up.findings().study.model_copy(update={"results": tmp_path})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(study) == default_uri(study) == f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri(study) == "http://there:5000"


def test_reading_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = made_up.findings().study.model_copy(update={"results": tmp_path / "results"})
    with pytest.raises(TrackingError, match="run `wav2bold sweep` first"):
        Tracker(study, make=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("https://me:se:cr@et@host", "https://me:***@host"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_passwords_are_not_shown(uri: str, shown: str) -> None:
    assert masked(uri) == shown


def test_nested_options_become_flat_names() -> None:
    assert flat({"a": 1, "unfrozen": {}}) == {"a": 1, "unfrozen": "nothing"}
    assert flat({"unfrozen": {"bias": None, "attention": [0, 2]}}) == {
        "unfrozen": "bias+attention",
        "unfrozen.bias": "all",
        "unfrozen.attention": "0-2",
    }
    assert flat({"lora": None}) == {"lora": "nothing"}
    adapters = Lora(rank=4, targets=("attention", "feed_forward"), layers=(0, 2)).model_dump(mode="json")
    assert flat({"lora": adapters}) == {
        "lora": "attention+feed_forward",
        "lora.rank": 4,
        "lora.alpha": 16,
        "lora.targets": "attention+feed_forward",
        "lora.layers": "0-2",
    }
    assert flat({"lora": adapters | {"layers": None}})["lora.layers"] == "all"


def test_an_interrupt_while_a_file_is_written_leaves_it_unlocked(
    card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = made_up.findings().study.model_copy(update={"results": tmp_path})
    tracker = Tracker(study)
    sweep = tracker.begin("sweep", "interrupted", study, card)
    pressed: list[int] = []

    def press(*anything: object) -> None:
        if not pressed:
            pressed.append(1)
            signal.raise_signal(signal.SIGINT)

    event.listen(Engine, "after_cursor_execute", press)
    try:
        with pytest.raises(KeyboardInterrupt) as interrupt:
            tracker.metrics(sweep, {"score": 0.25}, step=0)
    finally:
        event.remove(Engine, "after_cursor_execute", press)
    tracker.end(sweep, "KILLED")  # while the traceback keeps whatever was torn
    run = mlflow.MlflowClient(tracker.uri).get_run(sweep)
    assert (run.info.status, run.data.metrics) == ("KILLED", {"score": 0.25})
    assert interrupt.value.__traceback__
