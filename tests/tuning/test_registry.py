"""A refined encoder is found in MLflow's model registry by a name, and loads from there."""

from collections.abc import Iterator
from pathlib import Path

import made_up
import mlflow
import pytest
from listeners import save_small_wav2vec2
from servers import mlflow_server
from transformers import AutoModel

from wav2bold import steps
from wav2bold.config import Configuration, Study
from wav2bold.errors import TrackingError
from wav2bold.tuning.registry import check_name, register
from wav2bold.tuning.tracking import Tracker

CHOSEN, OTHER = Configuration(history=3), Configuration(history=4)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server, on loopback."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as running:
        yield running.uri


@pytest.fixture(params=["file", "server"])
def study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of its own name, remembered in a file beside it or on a server."""
    return made_up.study_remembered(request, tmp_path, monkeypatch)


def refined(
    tracker: Tracker,
    parent: str,
    subject: str,
    score: float,
    folder: Path,
    chosen: Configuration = CHOSEN,
) -> str:
    """A finished refinement as `refine` leaves it."""
    run = tracker.begin_trial("subject", subject, parent, chosen, {"number": 0, "subjects": subject})
    tracker.metrics(run, {"best_score": score}, 1)
    tracker.artifact(run, folder, "encoder")
    tracker.end(run)
    return run


def test_the_champion_is_the_best_of_its_configuration_and_loads(study: Study, tmp_path: Path) -> None:
    tracker, name = Tracker(study), f"speech of {study.name}"
    parent = tracker.begin("refine", "refine", study, made_up.findings().card)
    folders = [save_small_wav2vec2(tmp_path / f"encoder{seed}", seed=seed) for seed in range(4)]
    refined(tracker, parent, "sub-001", 0.2, folders[0])
    refined(tracker, parent, "sub-002", 0.3, folders[1])
    refined(tracker, parent, "sub-003", 0.9, folders[2], OTHER)

    champion = register(tracker, name, CHOSEN)
    assert (champion.version, champion.subject, champion.score) == (2, "sub-002", 0.3)
    assert weights(tracker, champion.uri, tmp_path / "back") == weights_in(folders[1])
    assert weights(tracker, f"models:/{name}@sub-001", tmp_path / "first") == weights_in(folders[0])
    assert register(tracker, name, CHOSEN) == champion  # nothing new: no new version
    assert len(mlflow.MlflowClient(tracker.uri).search_model_versions(f"name = '{name}'")) == 2

    assert steps.register(study, name, OTHER).subject == "sub-003"
    refined(tracker, parent, "sub-001", 0.4, folders[3])
    again = register(tracker, name, CHOSEN)
    assert (again.version, again.subject) == (4, "sub-001")
    assert weights(tracker, again.uri, tmp_path / "newer") == weights_in(folders[3])


def weights(tracker: Tracker, uri: str, folder: Path) -> float:
    with pytest.MonkeyPatch.context() as patch:  # a model's address says nothing of where it is kept
        patch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
        back = mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
    return weights_in(Path(back))


def weights_in(folder: Path) -> float:
    """A number that no other encoder has."""
    parameters = AutoModel.from_pretrained(folder).parameters()
    return sum(float(each.detach().double().square().sum()) for each in parameters)


@pytest.mark.parametrize("study", ["file"], indirect=True)
def test_who_was_not_refined_is_named(study: Study, tmp_path: Path) -> None:
    tracker = Tracker(study)
    parent = tracker.begin("refine", "refine", study, made_up.findings().card)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    refined(tracker, parent, "sub-001", 0.2, tmp_path / "encoder")
    with pytest.raises(TrackingError, match=r"no encoder of sub-002 that was refined"):
        register(tracker, "speech", CHOSEN, ["sub-001", "sub-002"])
    with pytest.raises(TrackingError, match="remembers no encoder that was refined with"):
        register(tracker, "speech", OTHER)
    assert mlflow.MlflowClient(tracker.uri).search_registered_models() == []


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "a@b", "..", "-a", "a ", "a\nb", "a'b", "a" * 251])
def test_a_name_that_mlflow_would_not_find_is_told_in_one_line(name: str) -> None:
    with pytest.raises(TrackingError) as raised:
        check_name(name)
    assert "can't name a model; use letters" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["speech", "a", "wav2vec2-base_refined 2.1", "Sprachmodell-für-alle"])
def test_usual_names_are_taken(name: str) -> None:
    check_name(name)
