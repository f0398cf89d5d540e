"""`kill -9` of a sweep's driver loses nothing that was finished: --resume comes to the same end."""

from pathlib import Path

import pytest
from commands import Made, here, killed, succeeds, wav2bold

from wav2bold.config import Study
from wav2bold.tuning.outbox import opened
from wav2bold.tuning.remembered import Trial

pytestmark = pytest.mark.slow


def trials_of(path: Path) -> list[Trial]:
    tracker = opened(Study.load(path))  # sends what the killed one had no time to send
    return tracker.trials(tracker.newest_sweep())


def test_a_sweep_that_is_killed_twice_is_resumed_to_the_end_of_an_undisturbed_one(
    tiny: Made, tmp_path: Path, small_ray: None
) -> None:
    options = {"search__trials": 6, "search__parallel": 1}
    calm = tiny.study_at(tmp_path / "calm", **options)
    succeeds("sweep", calm, run=here)
    path = tiny.study_at(tmp_path / "killed", **options)
    killed("sweep", path, sign="1/6")
    before = [trial for trial in trials_of(path) if trial.status == "FINISHED"]
    assert [trial.number for trial in before] == [0]
    killed("sweep", path, "--resume", sign="4/6")
    succeeds("sweep", path, "--resume")
    found, wanted = trials_of(path), trials_of(calm)
    assert found[0] == before[0]
    assert [(one.number, one.status) for one in found] == [(number, "FINISHED") for number in range(6)]
    assert [one.configuration for one in found] == [one.configuration for one in wanted]
    assert [one.scores for one in found] == [pytest.approx(one.scores, abs=1e-4) for one in wanted]
    assert succeeds("best", path).out.splitlines()[0] == succeeds("best", calm).out.splitlines()[0]


def test_there_is_nothing_to_resume_before_a_sweep(tiny: Made, tmp_path: Path) -> None:
    done = wav2bold("sweep", tiny.study_at(tmp_path), "--resume")
    assert done.code == 2
    assert "run `wav2bold sweep` first" in done.errors[-1]
