"""The same study twice gives the same; and the test story is nobody's but the report's."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Done, Made, edited, here, succeeds, wav2bold
from safetensors.numpy import load_file
from transformers import Wav2Vec2Model

from wav2bold.config import Configuration, Study
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.tracking import Tracker

pytestmark = pytest.mark.slow


def sweep_and_refine(study: Path, *options: object, run: Callable[..., Done] = wav2bold) -> Study:
    succeeds("sweep", study, *options, run=run)
    succeeds("best", study, "--out", study.with_name("best.yaml"), run=run)
    succeeds("refine", study, "--config", study.with_name("best.yaml"), *options, run=run)
    return Study.load(study)


def trials_of(study: Study) -> list[Trial]:
    tracker = Tracker(study)
    return tracker.trials(tracker.newest_sweep())


@pytest.fixture(scope="module")
def first(tiny: Made, tmp_path_factory: pytest.TempPathFactory, small_ray: None) -> Study:
    """Two trials at a time."""
    return sweep_and_refine(tiny.study_at(tmp_path_factory.mktemp("first"), search__trials=6), run=here)


@pytest.fixture(scope="module")
def second(tiny: Made, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One core: trials of a batch end in another order. And the test story is ruined."""
    folder = tmp_path_factory.mktemp("second")
    shards = shutil.copytree(tiny.shards, folder / "shards")
    study = tiny.study_at(folder, search__trials=6, shards=str(shards))
    (story,) = Study.load(study).split.test
    ruined = list(shards.glob(f"*/**/story={story}/**/*.parquet"))
    assert len(ruined) == 4  # three recordings and the sound
    for path in ruined:
        path.write_bytes(b"ruined")
    return sweep_and_refine(study, "--cpus", 1)


def test_the_same_seed_gives_the_same_sweep_in_whatever_order_trials_end(first: Study, second: Study) -> None:
    one, other = trials_of(first), trials_of(second)
    assert [trial.number for trial in one] == list(range(6))
    for a, b in zip(one, other, strict=True):
        assert a.configuration == b.configuration
        assert a.status == b.status
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4, rtol=0)
    files = [Configuration.load(study.results / "best.yaml") for study in (first, second)]
    assert files[0] == files[1]


def test_sweep_best_and_refine_never_read_the_test_story(first: Study, second: Study) -> None:
    for subject in ("sub-001", "sub-002", "sub-null1"):
        heads = [
            load_file(study.results / "refined" / subject / "head.safetensors") for study in (first, second)
        ]
        for key, value in heads[0].items():
            np.testing.assert_allclose(value, heads[1][key], atol=1e-4, rtol=1e-3)
        models = [
            Wav2Vec2Model.from_pretrained(study.results / "refined" / subject) for study in (first, second)
        ]
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_report_does_read_the_test_story(second: Study) -> None:
    done = wav2bold("report", second.results / "study.yaml", "--out", second.results / "report.html")
    assert done.code == 2, done.err
    assert len(done.errors) == 1
    assert f"story={second.split.test[0]}" in done.errors[0]
    assert "delete it and run `wav2bold prepare` again" in done.errors[0]
    assert not (second.results / "report.html").exists()


def test_a_second_sweep_is_a_new_one_and_best_takes_it(first: Study) -> None:
    before = Tracker(first).newest_sweep()
    study = edited(first.results / "study.yaml", first.results / "again.yaml", search__trials=1)
    succeeds("sweep", study, run=here)
    after = Tracker(first).newest_sweep()
    assert after != before
    assert len(Tracker(first).trials(before)) == 6
    assert succeeds("best", study).out.startswith("trial 0,")
