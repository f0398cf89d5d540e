"""Subjects times subsets are refined by the engine of sweeps: side by side, kept, told, and remembered."""

import csv
import json
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pytest
from listeners import noise_listeners, on_disk, save_small_wav2vec2, speech
from small_encoders import LAYERS
from sqlalchemy import Engine, event

from wav2bold.config import Configuration, Lora, Search, Split, Study
from wav2bold.errors import DataError, RunsFailed
from wav2bold.trainables.checkpoint import load_refined
from wav2bold.trainables.encoder import load_encoder
from wav2bold.tuning import subjects as step
from wav2bold.tuning.listed import Listed
from wav2bold.tuning.subset_scores import subset_folders, subset_score
from wav2bold.tuning.tracking import Tracker

TR_S, SECONDS = 1.0, 24.0
STORIES = ("bakery", "ferry", "library", "lighthouse")
QUICK = Configuration(history=2, epochs=1, unfrozen={"attention": (2, 2)}, warmup_steps=1, encoder_lr=1e-3)
SUBSETS = "top: {attention: [2, 2]}\nmixed: {feed_forward: [1, 2], bias: null}\n"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two people who heard four stories of 24 s."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sounds = {story: speech(SECONDS, number) for number, story in enumerate(STORIES)}
    on_disk(
        tmp_path / "shards",
        sounds,
        noise_listeners(STORIES, SECONDS, TR_S, {"sub-001": 3, "sub-002": 2}),
        TR_S,
    )
    (tmp_path / "subsets.yaml").write_text(SUBSETS)
    return Study(
        name="listeners",
        shards=tmp_path / "shards",
        encoder=str(save_small_wav2vec2(tmp_path / "encoder")),
        results=tmp_path,
        split=Split(validation=("library",), test=("lighthouse",)),
        configuration=QUICK,
        search=Search(space={"history": {"low": 1, "high": 2}}, max_failures=0),
    )


def test_every_subset_of_every_subject_is_refined_once_and_kept(study: Study, small_ray: None) -> None:
    adapted = QUICK.model_copy(update={"lora": Lora(rank=2)})
    file = study.results / "subsets.yaml"
    first = step.refine(study, adapted, ["sub-001"], subsets=file)
    assert first.done == ("top/sub-001", "mixed/sub-001")
    (study.results / "refined-subsets" / "mixed" / "sub-001" / "refined.json").unlink()
    (study.results / "refined-subsets" / "mixed" / "sub-001").rename(study.results / "gone")
    both = step.refine(study, adapted, subsets=file)
    assert both.done == ("mixed/sub-001", "top/sub-002", "mixed/sub-002")
    assert both.kept == ("top/sub-001",)
    assert step.refine(study, adapted, subsets=file).done == ()
    out = study.results / "refined-subsets"
    assert set(both.folders) == {f"{a}/{b}" for a in ("top", "mixed") for b in ("sub-001", "sub-002")}
    assert subset_folders(out) == sorted(both.folders.values())

    pretrained = load_encoder(study.encoder).model
    for name, folder in both.folders.items():
        kept = load_refined(folder)
        moved = {
            each: float((value - pretrained.get_parameter(each)).norm().detach())
            for each, value in kept.encoder.model.named_parameters()
        }
        changed = {each for each, distance in moved.items() if distance > 0}
        told = subset_score(folder)
        if told.helped:
            assert changed <= set(_named(name.partition("/")[0], list(moved)))
            sizes = {each: float(pretrained.get_parameter(each).norm().detach()) for each in moved}
            own = _named(name.partition("/")[0], list(moved))
            expected = np.hypot.reduce([moved[e] for e in own]) / np.hypot.reduce([sizes[e] for e in own])
            assert told.change == pytest.approx(expected, rel=1e-4)
            assert told.parameters == sum(pretrained.get_parameter(e).numel() for e in own)
        else:
            assert not changed
            assert told.gain == told.change == 0

    client = mlflow.MlflowClient(Tracker(study).uri)
    experiment = client.get_experiment_by_name("listeners").experiment_id
    runs = client.search_runs([experiment], "tags.`wav2bold.kind` = 'subset'")
    named = sorted((run.info.run_name, run.data.params["subset"], run.info.status) for run in runs)
    assert [name for name, _, _ in named].count("mixed/sub-001") == 2  # it was taken away in between
    assert {status for *_, status in named} == {"FINISHED"}
    run = next(run for run in runs if run.info.run_name == "top/sub-002")
    files = {Path(one.path).name for one in client.list_artifacts(run.info.run_id, "encoder")}
    assert {"scores.parquet", "changes.parquet", "config.yaml", "refined.json"} <= files
    assert not any(name.endswith(".safetensors") for name in files)
    assert run.data.metrics["system/trial_memory_mb"] > 50
    parent = run.data.tags["mlflow.parentRunId"]
    told = client.get_run(parent).data.tags
    assert (told["cluster.cpus"], told["library.torch"]) == ("2", version("torch"))
    table = Path(
        mlflow.artifacts.download_artifacts(f"runs:/{parent}/subsets.tsv", tracking_uri=client.tracking_uri)
    )
    rows = list(csv.DictReader(table.open(), delimiter="\t"))
    assert [(row["subset"], row["subject"]) for row in rows] == [
        (subset, who) for who in ("sub-001", "sub-002") for subset in ("top", "mixed")
    ]
    for row in rows:
        told = json.loads((out / row["subset"] / row["subject"] / "refined.json").read_text())
        assert float(row["gain"]) == pytest.approx(told["score"] - told["epochs"][0]["score"], abs=1e-5)
    assert (out / "subsets.png").read_bytes().startswith(b"\x89PNG")


def _named(subset: str, names: list[str]) -> list[str]:
    """Parameters of a subset by what transformers calls them."""
    matrices = {"top": "encoder.layers.2.attention.", "mixed": ".feed_forward."}[subset]
    own = [each for each in names if matrices in each and each.endswith("weight")]
    if subset == "top":
        return own
    biases = [
        each
        for each in names
        if each.endswith(".bias") and "norm" not in each and not each.startswith("feature_extractor")
    ]
    return [each for each in own if "layers.0." not in each] + biases


def test_who_failed_is_told_and_the_others_are_in_the_table(study: Study, small_ray: None) -> None:
    # sub-002's shard is cut short after everything was checked
    path = next((study.shards / "bold" / "subject=sub-002" / "story=ferry").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunsFailed) as raised:
        step.refine(study, QUICK, subsets=study.results / "subsets.yaml")
    assert {name for name, _ in raised.value.failures} == {"top/sub-002", "mixed/sub-002"}
    table = (study.results / "refined-subsets" / "subsets.tsv").read_text()
    assert [line.split("\t")[:2] for line in table.splitlines()[1:]] == [
        ["top", "sub-001"],
        ["mixed", "sub-001"],
    ]


def test_each_is_every_type_in_every_layer(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def begun(out: Path, count: int, encoder: object) -> None:
        asked.append([str(out), str(count)])
        raise InterruptedError

    monkeypatch.setattr(step, "_refuse_small_disk", begun)
    with pytest.raises(InterruptedError):
        step.refine(study, QUICK, subsets="each")
    assert asked == [[str(study.results / "refined-subsets"), str(2 * (3 + 4 * LAYERS))]]


def test_folders_of_subsets_and_of_subjects_do_not_mix(study: Study) -> None:
    plain = study.results / "refined" / "sub-001"
    plain.mkdir(parents=True)
    (plain / "refined.json").write_text('{"origin": {"subject": "sub-001"}}')
    with pytest.raises(DataError, match="refined: is not empty and holds no refined encoder; choose another"):
        step.refine(study, QUICK, out=plain.parent, subsets=study.results / "subsets.yaml")
    below = study.results / "refined-subsets" / "top" / "sub-001"
    below.mkdir(parents=True)
    (below / "refined.json").write_text('{"origin": {"subject": "sub-001"}}')
    with pytest.raises(DataError, match="refined-subsets: is not empty and holds no refined encoder"):
        step.refine(study, QUICK, out=study.results / "refined-subsets")


def test_encoders_that_do_not_fit_on_the_disk_are_refused(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 4 * sum(each.numel() for each in load_encoder(study.encoder).model.parameters())

    class Usage:
        free = 2 * size - 1

    monkeypatch.setattr(step.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(DataError, match=r"refined: 2 refined encoders take 0\.0 GB, and 0\.0 GB are free"):
        step.refine(study, QUICK)


def test_tasks_are_given_in_their_order_and_no_more_at_once_than_asked_for() -> None:
    listed = Listed([{"number": number} for number in range(3)], 2)
    assert [listed.suggest(name) for name in "ab"] == [{"task": {"number": 0}}, {"task": {"number": 1}}]
    assert listed.suggest("c") is None
    listed.on_trial_complete("b", error=True)
    listed.on_trial_complete("a", {"best_score": 0.1})
    assert listed.suggest("c") == {"task": {"number": 2}}
    assert listed.suggest("d") == Listed.FINISHED


def test_what_mlflow_is_asked_for_a_person_does_not_grow_with_how_many_came_before(
    study: Study, small_ray: None
) -> None:
    """20 people here; `benchmarks/fanout.py` has 345, and the driver's time and memory."""
    people = [f"sub-{number:03d}" for number in range(1, 21)]
    sounds = {story: speech(12.0, number) for number, story in enumerate(STORIES)}
    bold = noise_listeners(STORIES, 12.0, TR_S, dict.fromkeys(people, 2))
    on_disk(study.results / "crowd", sounds, bold, TR_S)
    asked: list[str] = []
    counts: list[int] = []

    def count(*given: object) -> None:
        asked.append(str(given[2]))

    def watch(what: str, _done: int, _total: int) -> None:
        if what.endswith(" done"):
            counts.append(len(asked))

    many = study.model_copy(update={"shards": study.results / "crowd"})
    head = QUICK.model_copy(update={"unfrozen": {}})
    event.listen(Engine, "after_cursor_execute", count)
    try:
        done = step.refine(many, head, progress=watch)
    finally:
        event.remove(Engine, "after_cursor_execute", count)
    assert done.done == tuple(people)
    assert len(counts) == len(people)
    each = np.diff(counts)
    # one statement more for each person before would be 88 more; a few fall to a peer's turn, on either side
    assert each[-8:].sum() < each[1:9].sum() + 44
