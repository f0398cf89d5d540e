"""A sweep goes on only as the one that it was, and with one driver at a time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_up
import pytest

from wav2bold.config import Configuration, Search, Study
from wav2bold.errors import TrackingError
from wav2bold.tuning.driving import only_driver
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.resuming import identity, marked, refuse_other, told_apart
from wav2bold.tuning.tracking import Tracker

ENCODER: Any = SimpleNamespace(digest="of an encoder")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: MLflow takes seconds to make a database."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def study(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return made_up.findings().study.model_copy(update={"name": tmp_path.name, "results": results})


def test_a_second_driver_is_refused_and_comes_after_the_first(study: Study) -> None:
    with only_driver(study):
        with pytest.raises(TrackingError) as raised, only_driver(study):
            pass
        with only_driver(study.model_copy(update={"name": "others"})):
            pass
    assert str(raised.value) == (
        f"a sweep of {study.name} into {study.results} is running already; wait for it, or give this one "
        "another `name` or `results`"
    )
    with only_driver(study):
        pass


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, None),
        ({"results": Path("elsewhere"), "search": Search(trials=99, cpus_per_trial=3, max_failures=7)}, None),
        ({"seed": 1}, "seed"),
        ({"configuration": Configuration(batch=9)}, "configuration"),
        ({"search": Search(parallel=3, sampler="random")}, "search.parallel, search.sampler"),
        ({"search": Search(space={"unfrozen": None})}, "search.space"),
        ({"search": Search(objective={})}, "search.objective"),
    ],
)
def test_what_decides_a_sweep_may_not_have_changed(
    study: Study, changes: dict[str, Any], named: str | None
) -> None:
    tracker = Tracker(study)
    before = identity(study, ENCODER, "of shards", ["sub-001"])
    sweep = tracker.begin("sweep", "sweep", study, made_up.findings().card, marked(before))
    now = identity(study.model_copy(update=changes), ENCODER, "of shards", ["sub-001"])
    if named is None:
        refuse_other(tracker, sweep, now)
        return
    with pytest.raises(TrackingError) as raised:
        refuse_other(tracker, sweep, now)
    assert str(raised.value) == (
        f"the newest sweep was begun with other {named} than there is now; put that back, or begin a new "
        "sweep without --resume"
    )


def test_an_objective_that_was_there_may_not_be_gone_or_another(study: Study) -> None:
    tracker = Tracker(study)
    people = ["sub-001"]
    mean, least = (
        study.model_copy(update={"search": Search(objective={"reduce": reduce})})
        for reduce in ("mean", "min")
    )
    listed = study.model_copy(update={"search": Search(objective={"subjects": people})})
    begun = marked(identity(mean, ENCODER, "of shards", people))
    sweep = tracker.begin("sweep", "sweep", study, made_up.findings().card, begun)
    for other in (study, least):
        with pytest.raises(TrackingError, match=r"begun with other search\.objective than there is now"):
            refuse_other(tracker, sweep, identity(other, ENCODER, "of shards", people))
    refuse_other(tracker, sweep, identity(listed, ENCODER, "of shards", people))  # the same, said otherwise


def test_other_data_make_another_sweep(study: Study) -> None:
    mine = identity(study, ENCODER, "of shards", ["sub-001"])
    assert mine["shards"] != identity(study, ENCODER, "of others", ["sub-001"])["shards"]
    assert mine["subjects"] != identity(study, ENCODER, "of shards", ["sub-001", "sub-002"])["subjects"]
    other: Any = SimpleNamespace(digest="of another")
    assert mine["encoder"] != identity(study, other, "of shards", ["sub-001"])["encoder"]


def trial(number: int, status: str) -> Trial:
    return Trial(f"{number}-{status}", number, status, Configuration(), (0.1,), 0.1, 1.0)


def test_only_what_was_left_is_taken_up() -> None:
    trials = [trial(1, "FAILED"), trial(0, "FINISHED"), trial(3, "KILLED"), trial(2, "RUNNING")]
    ended, left = told_apart(trials)
    assert [one.number for one in ended] == [0, 1]
    assert left == {2: "2-RUNNING", 3: "3-KILLED"}


def test_a_run_that_is_gone_on_with_stays_one_run(study: Study) -> None:
    """Its last word counts where it tells the same epoch twice, and what was logged before may stay."""
    tracker, card = Tracker(study), made_up.findings().card
    sweep = tracker.begin("sweep", "sweep", study, card)
    more = {"number": 0, "trained_parameters": 12}
    run = tracker.begin_trial("trial", "trial 0", sweep, study.configuration, more)
    for epoch, score in enumerate((0.5, 0.1)):
        tracker.metrics(run, {"score": score}, epoch)
    tracker.end(run, "KILLED")
    tracker.end(sweep, "KILLED")

    tracker.begin_again(sweep, study, card)
    assert tracker.begin_trial("trial", "trial 0", sweep, study.configuration, more, run) == run
    (running,) = tracker.trials(sweep)
    assert running.status == "RUNNING"
    for epoch, score in enumerate((0.2, 0.3, 0.4)):
        tracker.metrics(run, {"score": score}, epoch)
    tracker.end(run)
    (remembered,) = tracker.trials(sweep)
    assert (remembered.status, remembered.scores, remembered.best_score) == ("FINISHED", (0.2, 0.3, 0.4), 0.4)
    assert remembered.trained_parameters == 12
