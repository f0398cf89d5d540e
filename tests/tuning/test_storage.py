"""Optuna's memory outlives a process, and nothing that is shown holds its password."""

from pathlib import Path

import made_up
import mlflow
import optuna
import pytest

from wav2bold.config import Search, Study
from wav2bold.errors import TrackingError
from wav2bold.places import masked
from wav2bold.tuning.asking import Asking
from wav2bold.tuning.goals import Ended
from wav2bold.tuning.space import Proposals
from wav2bold.tuning.storage import open_memory, reached, storage_url
from wav2bold.tuning.tracking import Tracker


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return made_up.findings().study.model_copy(update={"results": tmp_path / "results"})


def kept_in(study: Study, url: str) -> Study:
    return study.model_copy(update={"search": Search(storage=url)})


def proposals(study: Study) -> Proposals:
    return Proposals(study, 4, ("sub-001",))


@pytest.mark.parametrize("name", [None, "elsewhere.db"])
def test_what_was_proposed_and_told_is_there_for_the_next_process(
    study: Study, tmp_path: Path, name: str | None
) -> None:
    of = study if name is None else kept_in(study, f"sqlite:///{tmp_path / name}")
    first = Asking(open_memory(of, "sweep", proposals(of)), proposals(of), lambda _: 5, 12, {})
    tasks = [first.suggest(f"t{number}")["task"] for number in (0, 1)]
    assert first.suggest("t2") is None  # the batch of two is under way
    file = tmp_path / (name or "results/optuna.db")
    assert file.is_file()

    memory = open_memory(of, "sweep", proposals(of))
    again = Asking(memory, proposals(of), lambda _: 5, 12, {0: Ended(0.25, of.configuration)})
    assert again.left == 11
    assert again.suggest("other")["task"] == tasks[1]  # the one that was under way
    assert again.suggest("more") is None
    again.on_trial_complete("other", {"best_score": 0.5})
    assert again.suggest("more")["task"]["number"] == 2
    assert [trial.value for trial in memory.trials] == [0.25, 0.5, None]
    assert memory.trials[0].params["history"] == of.configuration.history


def test_sweeps_do_not_share_their_memory(study: Study) -> None:
    for sweep in ("one", "other"):
        memory = open_memory(study, sweep, proposals(study))
        assert [trial.state for trial in memory.trials] == [optuna.trial.TrialState.WAITING]


def test_a_failed_trial_teaches_nothing(study: Study) -> None:
    memory = open_memory(study, "sweep", proposals(study))
    search = Asking(memory, proposals(study), lambda _: 5, 2, {})
    for name in ("a", "b"):
        search.suggest(name)
    search.on_trial_complete("a", error=True)
    search.on_trial_complete("b", {"best_score": float("nan")})
    search.close()
    assert {trial.state for trial in memory.trials} == {optuna.trial.TrialState.FAIL}


def test_optuna_is_told_of_a_batch_only_after_its_records_are_safe(study: Study) -> None:
    memory = open_memory(study, "sweep", proposals(study))
    known: list[int] = []  # how many trials Optuna knew as the disk was asked to keep theirs

    def settle() -> None:
        known.append(sum(trial.state.is_finished() for trial in memory.get_trials()))

    search = Asking(memory, proposals(study), lambda _: 5, 12, {}, settle=settle)
    for batch in (("a", "b"), ("c", "d")):
        for name in batch:
            search.suggest(name)
        for name in batch:
            search.on_trial_complete(name, {"best_score": 0.5})
    search.close()
    assert known == [0, 2]
    assert [trial.value for trial in memory.trials] == [0.5] * 4


def test_a_storage_that_lost_the_sweep_is_told(study: Study) -> None:
    memory = open_memory(study, "sweep", proposals(study))
    with pytest.raises(TrackingError, match=r"MLflow remembers trial 3 of the sweep, and search\.storage"):
        Asking(memory, proposals(study), lambda _: 5, 12, {3: Ended(0.1, study.configuration)})


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("postgresql://me:unspoken@host/db", "postgresql://me:***@host/db"),
        ("mysql://host/db?user=me&password=unspoken&ssl=1", "mysql://host/db?user=me&password=***&ssl=1"),
        ("sqlite:////home/me/optuna.db", "sqlite:////home/me/optuna.db"),
    ],
)
def test_no_password_is_masked(url: str, seen: str) -> None:
    assert masked(url) == seen


@pytest.mark.parametrize(
    "url", ["nosuch://me:unspoken@host/db", "postgresql+nosuch://me:unspoken@host/db?sslpassword=unspoken"]
)
def test_a_storage_that_can_not_be_used_is_one_line_without_its_password(study: Study, url: str) -> None:
    of = kept_in(study, url)
    with pytest.raises(TrackingError) as raised:
        open_memory(of, "sweep", proposals(of))
    said = str(raised.value)
    assert said.startswith(f"search.storage: {masked(url)} can't be used (")
    assert said.endswith("mend it, then `wav2bold sweep --resume` goes on where the sweep was")
    assert "unspoken" not in said
    assert "\n" not in said


def test_a_file_that_is_no_database_is_told(study: Study) -> None:
    path = Path(storage_url(study).removeprefix("sqlite:///"))
    path.parent.mkdir()
    path.write_text("not a database, and long enough to be read as the head of one" * 20)
    with pytest.raises(TrackingError, match="file is not a database"):
        open_memory(study, "sweep", proposals(study))


def test_an_error_of_ours_passes_the_guard(study: Study) -> None:
    with pytest.raises(ZeroDivisionError), reached(study):
        raise ZeroDivisionError


def test_mlflow_never_learns_the_password(study: Study, tmp_path: Path) -> None:
    of = kept_in(study, "postgresql://me:unspoken@host/db")
    tracker = Tracker(of)
    sweep = tracker.begin("sweep", "sweep", of, made_up.findings().card)
    file = mlflow.artifacts.download_artifacts(
        run_id=sweep, artifact_path="study.yaml", tracking_uri=tracker.uri, dst_path=str(tmp_path)
    )
    assert "postgresql://me:***@host/db" in Path(file).read_text()
    everything = [path.read_bytes() for path in study.results.rglob("*") if path.is_file()]
    assert everything
    assert not any(b"unspoken" in content for content in everything)
