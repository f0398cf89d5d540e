"""While a sweep runs, nodes may come and go: new ones are used, and lost ones cost what ran there, once."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import changing
import pytest
from drivers import drive
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.tune.execution.tune_controller import TuneController

from wav2bold.tuning import controller as tune
from wav2bold.tuning.tracking import Tracker

pytestmark = pytest.mark.alone
TAKES_S = 400
Seen = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("changing")


@pytest.fixture(scope="module")
def seen(folder: Path) -> Seen:
    """What `changing.main` saw. Its user has a token, of another cluster: this one asks for none."""
    (folder / "home" / ".ray").mkdir(parents=True)
    (folder / "home" / ".ray" / "auth_token").write_text("0" * 64)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, changing.__file__, str(folder)],
        env=own | {"HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=TAKES_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_node_that_is_added_is_used_within_half_a_minute(seen: Seen) -> None:
    assert seen["used_after_s"] < 30
    assert [number for number, node in seen["tries"] if node == seen["added"]] == [1]


def test_a_lost_node_costs_what_ran_there_and_nothing_that_had_ended(seen: Seen) -> None:
    tried = Counter(number for number, _ in seen["tries"])
    first, second = (node for number, node in seen["tries"] if number == 1)
    assert first != second
    assert {number for number, times in tried.items() if times == 1} >= {0, 2, 3}
    # 4 or 5 may have been given to the actor that was lost, warm, or have begun there
    again = Counter(what.partition(" died")[0] for what in seen["told"] if "is tried again" in what)
    assert again in (Counter(["trial 1", *others]) for others in ([], ["trial 4"], ["trial 5"]))
    assert sorted(what for what in seen["told"] if what.endswith("done")) == [
        f"trial {number} done" for number in range(6)
    ]  # though `max_failures` is 0


def test_its_scores_are_those_of_one_process(seen: Seen, folder: Path, tmp_path: Path) -> None:
    study = changing.study_of(folder, trials=6, parallel=2)
    calm = study.model_copy(update={"results": tmp_path})
    code, _ = drive(calm)
    assert code == 0
    tracker = Tracker(calm)
    wanted = [trial.best_score for trial in tracker.trials(tracker.newest_sweep())]
    assert seen["scores"] == pytest.approx(wanted, abs=1e-4)


def test_a_node_that_is_lost_is_told_from_a_process_that_died() -> None:
    unavailable = ActorUnavailableError("RPC error", None)
    assert tune.is_lost_node(unavailable)
    assert tune.is_lost_node(RayTaskError("step", "traceback", unavailable))
    assert not tune.is_lost_node(ActorDiedError())
    assert not tune.is_lost_node(RayTaskError("step", "traceback", MemoryError("no room")))


def test_a_trial_that_takes_node_after_node_down_fails_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = SimpleNamespace(num_failures=0)

    def count(self: object, trial: Any, exception: Exception) -> None:
        trial.run_metadata.num_failures += 1

    monkeypatch.setattr(TuneController, "_process_trial_failure", count)
    controller = tune.Controller.__new__(tune.Controller)
    controller._resetting_trials, controller._lost = set(), Counter()
    trial = Mock(trial_id="t0", status="RUNNING", run_metadata=counted)
    for _ in range(tune.NODES):
        controller._process_trial_failure(trial, ActorUnavailableError("RPC error", None))
    assert counted.num_failures == 0
    controller._process_trial_failure(trial, ActorUnavailableError("RPC error", None))
    assert counted.num_failures == 1
