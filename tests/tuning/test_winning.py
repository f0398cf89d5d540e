"""How sure it is that the best trial betters the first is what `evaluation` says of known arrays."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
from drivers import small_study
from scipy import stats
from typer.testing import CliRunner

from wav2bold.cli import app
from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import Shards, open_shards
from wav2bold.datasets.windows import Windows, windows
from wav2bold.evaluation.significance import improvement_p, significant
from wav2bold.evaluation.versus import versus
from wav2bold.trainables.scores import brain_score, paired_gain, pearson
from wav2bold.tuning.best import certainty
from wav2bold.tuning.kept import Keeper, kept_of
from wav2bold.tuning.tracking import Tracker
from wav2bold.tuning.winning import TABLE, remember_winner
from wav2bold.tuning.workshop import longest_history

PEOPLE = ("sub-001", "sub-002")
WIDTH = 3
"""Targets of each. Of the first the winner is far better, of the others it is not."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return small_study(tmp_path_factory.mktemp("winning"), people=PEOPLE)


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def heard(study: Study, *people: str) -> Windows:
    return windows(open_shards(study.shards), people, study.split.validation, longest_history(study))


def predictions(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    before = 0.3 * y + random.standard_normal(y.shape)
    after = before.copy()
    after[:, 0] = 2 * y[:, 0] + 0.1 * random.standard_normal(len(y))
    return before.astype(np.float32), after.astype(np.float32)


def begun(study: Study, shards: Shards, people: tuple[str, ...]) -> tuple[Tracker, str, dict[str, Any]]:
    """A sweep whose trials 0 and 4 left their predictions."""
    tracker = Tracker(study)
    sweep = tracker.begin("sweep", "sweep", study, shards.card)
    told = {}
    for number, subject in enumerate(people):
        some = heard(study, subject)
        told[subject] = some, *predictions(some.y, number)
        for trial, predicted in zip((0, 4), told[subject][1:], strict=True):
            keep = Keeper(kept_of(study, sweep).task(trial, None)["predictions"], some, keeps_best=True)
            keep(0.1, predicted)
    return tracker, sweep, told


def rows(tracker: Tracker, sweep: str, folder: Path) -> dict[str, Any]:
    path = mlflow.artifacts.download_artifacts(
        f"runs:/{sweep}/{TABLE}", dst_path=str(folder), tracking_uri=tracker.uri
    )
    return {name: np.array(column) for name, column in pq.read_table(path).to_pydict().items()}


def test_each_targets_p_is_that_of_the_paired_permutation(study: Study, tmp_path: Path) -> None:
    shards = open_shards(study.shards)
    tracker, sweep, told = begun(study, shards, PEOPLE)
    said = remember_winner(study, shards, PEOPLE, tracker, sweep, 4)
    tr_s = shards.card.tr_s
    wanted = [improvement_p(some.y, *two, some.story, tr_s) for some, *two in told.values()]
    found = rows(tracker, sweep, tmp_path)
    assert found["subject"].tolist() == [subject for subject in PEOPLE for _ in range(WIDTH)]
    assert found["target"].tolist() == [0, 1, 2] * 2
    assert found["p"] == pytest.approx(np.concatenate(wanted))
    better = stats.false_discovery_control(np.nan_to_num(np.concatenate(wanted), nan=1.0)) <= 0.05
    assert found["better"].tolist() == better.tolist() == significant(np.concatenate(wanted)).tolist()
    assert found["r_paper"] == pytest.approx(
        np.concatenate([pearson(some.y, before) for some, before, _ in told.values()])
    )
    metrics = mlflow.MlflowClient(tracker.uri).get_run(sweep).data.metrics
    gains = [
        brain_score(pearson(some.y, after)) - brain_score(pearson(some.y, before))
        for some, before, after in told.values()
    ]
    assert metrics["winner.gain"] == pytest.approx(np.mean(gains))
    assert metrics["winner.p"] == stats.wilcoxon(gains, alternative="greater").pvalue
    assert metrics["winner.targets_better"] == better.sum()
    for subject, gain in zip(PEOPLE, gains, strict=True):
        assert metrics[f"winner.{subject}.gain"] == pytest.approx(gain)
    assert said.startswith(
        "trial 4 against the paper's configuration: targets better at FDR q 0.05: "
        f"{better.sum()} of 6 targets; mean gain {np.mean(gains):.4f} (95% interval "
    )
    assert ", Student's t and one-sided Wilcoxon test over 2 subjects); it was" in said
    assert said.endswith("it was chosen on these same stories, so the test stories decide")


def test_of_one_subject_the_gain_is_tested_over_blocks_of_time(study: Study) -> None:
    shards = open_shards(study.shards)
    tracker, sweep, told = begun(study, shards, PEOPLE[:1])
    said = remember_winner(study, shards, PEOPLE[:1], tracker, sweep, 4)
    assert ", over blocks of time, one-sided sign-flip test); it was" in said
    some, before, after = told["sub-001"]
    metrics = mlflow.MlflowClient(tracker.uri).get_run(sweep).data.metrics
    assert metrics["winner.p"] == paired_gain(some.y, before, after, 15).p  # 15 s of 1 s


def test_a_prediction_that_betters_nothing_has_no_small_p() -> None:
    """Of pairs of noise in 400 targets, about one in twenty has p below 0.05."""
    random = np.random.default_rng(0)
    y, before, after = random.standard_normal((3, 300, 400))
    found = versus(y, before, after, np.repeat("story", 300), 1.5)
    assert 0.02 < np.mean(found.p < 0.05) < 0.09
    assert found.interval.low < found.gain.gain < found.interval.high


def test_best_tells_what_the_sweep_told_and_of_no_other_trial(study: Study, tmp_path: Path) -> None:
    study = study.model_copy(update={"results": tmp_path})
    study.save(tmp_path / "study.yaml")
    shards = open_shards(study.shards)
    tracker, sweep, _ = begun(study, shards, PEOPLE)
    for number, score in ((0, 0.1), (4, 0.5)):
        run = tracker.begin_trial("trial", "trial", sweep, Configuration(), {"number": number})
        tracker.metrics(run, {"score": score}, 0)
        tracker.end(run)
    said = remember_winner(study, shards, PEOPLE, tracker, sweep, 4)
    shown = CliRunner().invoke(app, ["best", str(tmp_path / "study.yaml")]).stdout
    assert said in shown.replace("\n", " ")
    first = tracker.trials(sweep)[0]
    assert certainty(study, first) == ""


def test_what_is_not_known_is_said(study: Study) -> None:
    shards = open_shards(study.shards)
    tracker, sweep, _ = begun(study, shards, PEOPLE)
    assert "the paper's configuration itself" in remember_winner(study, shards, PEOPLE, tracker, sweep, 0)
    kept_of(study, sweep).forget(4)
    assert "are gone from the results folder" in remember_winner(study, shards, PEOPLE, tracker, sweep, 4)


def test_a_subject_keeps_the_rows_that_it_heard(study: Study, tmp_path: Path) -> None:
    """Two people refined together, one of whom lacks half of a story's volumes."""
    joint = heard(study, *PEOPLE)
    joint.y[::2, joint.subject == "sub-002"] = np.nan
    keep = Keeper({"folder": str(tmp_path), "above": 0.2}, joint, keeps_best=True)
    everything = np.arange(joint.y.size, dtype=np.float32).reshape(joint.y.shape)
    keep(0.2, everything)
    assert list(tmp_path.iterdir()) == []  # no better than what there is
    keep(0.4, everything)
    keep(0.3, -everything)
    assert np.array_equal(np.load(tmp_path / "sub-001.npy"), everything[:, :3])
    assert np.array_equal(np.load(tmp_path / "sub-002.npy"), everything[1::2, 3:])
    last = Keeper({"folder": str(tmp_path), "above": None}, joint, keeps_best=False)
    for score in (0.4, 0.3):
        last(score, score * everything)
    assert np.array_equal(np.load(tmp_path / "sub-001.npy"), np.float32(0.3) * everything[:, :3])
