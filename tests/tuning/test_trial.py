"""A trial's store is the one that the study file describes, and what was killed of it goes on."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from listeners import noise_listeners, on_disk, save_small_wav2vec2, speech
from stores import contents

from wav2bold.config import Activations, Configuration, Lora, Split, Study
from wav2bold.trainables.checkpoint import load_refined
from wav2bold.trainables.encoder import load_encoder
from wav2bold.tuning.trial import WarmTrial
from wav2bold.tuning.workshop import activation_store, checkpoint_beside


def test_activations_are_stored_as_the_study_says(tmp_path: Path) -> None:
    study = Study(
        name="x",
        shards=tmp_path,
        encoder="x",
        split=Split(validation=("a",), test=("b",)),
        results=tmp_path / "results",
        activations=Activations(max_gb=6e-5, dtype="bfloat16"),
    )
    third = np.full((100, 100), 1 / 3, np.float32)
    for number in range(9):
        tensor = activation_store(study).tensor({"number": number}, third.shape, lambda: iter([third]))
        assert torch.equal(tensor, torch.full((100, 100), 1 / 3, dtype=torch.bfloat16))
        del tensor
    stored = list((tmp_path / "results" / "activations").rglob("*.safetensors"))
    assert 1 <= len(stored) <= 2  # of 20 kB each


STORIES = ("bakery", "ferry", "library")
QUICK = Configuration(history=2, epochs=2, unfrozen={"attention": (2, 2)}, warmup_steps=1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A person who heard three stories of 24 s."""
    folder = tmp_path_factory.mktemp("study")
    sounds = {story: speech(24, number) for number, story in enumerate(STORIES)}
    on_disk(folder / "shards", sounds, noise_listeners(STORIES, 24, 1, {"sub-001": 3}), 1.0)
    return Study(
        name="listeners",
        shards=folder / "shards",
        encoder=str(save_small_wav2vec2(folder / "encoder")),
        results=folder,
        split=Split(validation=("library",), test=("bakery",)),
        configuration=QUICK,
    )


class Here(WarmTrial):
    """A trial in this process, as Ray would make it with the study."""

    study: Study

    def setup(self, config: Mapping[str, Any]) -> None:
        super().setup(config, self.study.model_dump(mode="json"))


def trial(study: Study, out: Path | None, options: Configuration = QUICK) -> Here:
    Here.study = study
    task = {"number": 0, "configuration": options.model_dump(mode="json"), "subjects": ["sub-001"]}
    return Here({"task": task if out is None else task | {"out": str(out), "origin": {"subject": "sub-001"}}})


def test_a_trial_that_was_killed_goes_on_and_writes_the_same_encoder(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    undisturbed = trial(study, calm)
    wanted = [undisturbed.step() for _ in range(3)]
    assert [one["done"] for one in wanted] == [False, False, True]
    first = trial(study, killed)
    before = [first.step(), first.step()]
    assert checkpoint_beside(killed).is_dir()
    monkeypatch.delattr("wav2bold.trainables.refine.solve_stage1")  # what is done isn't done again
    second = trial(study, killed)
    found = [second.step() for _ in range(3)]
    assert [one["seconds"] for one in found[:2]] == [one["seconds"] for one in before]
    for one, other in zip(found, wanted, strict=True):
        measured = {"seconds": 0, "system": {}}
        assert repr(one | measured) == repr(other | measured)
    assert contents(killed) == contents(calm)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calm", "killed"]


@pytest.mark.parametrize(
    "trained",
    [
        {"unfrozen": {"attention": (2, 2)}},
        {"unfrozen": {}, "lora": Lora(targets=("attention",), layers=(2, 2))},
        {"unfrozen": {}},
    ],
)
def test_drift_is_the_change_of_what_was_trained(study: Study, tmp_path: Path, trained: Any) -> None:
    """Of one type in one layer, it is that row of the table of changes."""
    one = trial(study, tmp_path / "out", QUICK.model_copy(update=trained | {"encoder_lr": 1e-2}))
    while not (told := one.step())["done"]:
        assert math.isnan(told["drift"])
    rows = pq.read_table(tmp_path / "out" / "changes.parquet").to_pylist()
    changed = [row["change"] for row in rows if row["change"] > 0]
    assert bool(changed) == (trained != {"unfrozen": {}})  # by this seed, stage 2 helps
    assert told["drift"] == pytest.approx(sum(changed))


def test_trials_of_a_sweep_write_no_checkpoint(study: Study) -> None:
    before = {path for path in study.results.rglob("*") if "activations" not in path.parts}
    short = trial(study, None)
    while not short.step()["done"]:
        pass
    assert {path for path in study.results.rglob("*") if "activations" not in path.parts} == before


def test_the_control_is_valued_by_the_epoch_that_is_kept_and_others_by_their_best(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for objective, valued in (("brain", [3.0, 3.0, 3.0]), ("pretrain", [3.0, 2.0, 1.0])):
        falling = iter((3.0, 0.0, 2.0, 0.0, 1.0, 0.0))  # of each epoch plain and white
        monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda _, told=falling: next(told))
        out = tmp_path / objective
        one = trial(study, out, QUICK.model_copy(update={"objective": objective}))
        assert [one.step()["best_score"] for _ in range(3)] == valued
        kept = load_refined(out)
        assert kept.configuration.objective == objective
        assert (kept.encoder.digest == load_encoder(study.encoder).digest) == (objective == "brain")
