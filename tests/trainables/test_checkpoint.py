"""A refined encoder on disk is one that others load too, and a crash leaves the old one whole."""

import copy
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from listeners import RATE_HZ, save_small_wav2vec2, speech
from transformers import AutoFeatureExtractor, Wav2Vec2Model

from wav2bold.config import Configuration
from wav2bold.errors import DataError, EncoderError, StudyError
from wav2bold.trainables import checkpoint
from wav2bold.trainables.checkpoint import load_refined, save_refined
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.origin import origin_of
from wav2bold.trainables.refine import Refined, Report
from wav2bold.trainables.ridge import Head

ORIGIN = {"study": "simulated", "subject": "sub-001", "seed": 3}
CONFIGURATION = Configuration(history=3, unfrozen={"attention": (1, 2)}, encoder_lr=1e-3)
TARGETS = pa.table(
    {
        "subject": ["sub-001", "sub-001", "sub-002", "sub-002"],
        "target": pa.array([0, 1, 0, 1], pa.int32()),
        "ceiling": pa.array([0.6, np.nan, 0.3, 0.9], pa.float32()),
    }
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"))))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Wav2Vec2Model:
    """What the encoder became."""
    folder = save_small_wav2vec2(tmp_path_factory.mktemp("other"), seed=1)
    return Wav2Vec2Model.from_pretrained(folder).eval()


def head(seed: int = 0) -> Head:
    random = np.random.default_rng(seed)
    shapes = {"mean": 48, "sd": 48, "weight": (48, 4), "bias": 4, "alpha": 4}
    return Head(**{key: random.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()})


def reports() -> list[Report]:
    scores = np.array([[0.1, 0.2, np.nan, 0.4], [0.2, 0.3, np.nan, 0.5], [0.0, 0.1, np.nan, 0.2]])
    means = [float(np.nanmean(row)) for row in scores]
    losses = [float("nan"), 0.5, -0.5]
    return [
        Report(epoch, loss, mean, row, mean, epoch + 1.0, epoch == 2)
        for epoch, (loss, mean, row) in enumerate(zip(losses, means, scores, strict=True))
    ]


def save(folder: Path, encoder: Encoder, model: Wav2Vec2Model, seed: int = 0, **origin: object) -> Refined:
    refined = Refined(CONFIGURATION, model, head(seed), 1, 1 / 3)
    save_refined(folder, refined, encoder, TARGETS, reports(), ORIGIN | origin)
    return refined


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_transformers_loads_the_folder_and_hears_the_same(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model
) -> None:
    save(tmp_path / "sub-001", encoder, other)
    model = Wav2Vec2Model.from_pretrained(tmp_path / "sub-001").eval()
    theirs, ours = model.state_dict(), other.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)
    extractors = [AutoFeatureExtractor.from_pretrained(name) for name in (tmp_path / "sub-001", encoder.name)]
    sound = speech(2, 0)
    one, two = (
        extractor(sound, sampling_rate=RATE_HZ, return_tensors="pt").input_values for extractor in extractors
    )
    assert torch.equal(one, two)
    with torch.no_grad():
        assert torch.equal(model(one).last_hidden_state, other(two).last_hidden_state)


def test_what_is_read_back_is_what_was_saved_bit_by_bit(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model
) -> None:
    refined = save(tmp_path / "sub-001", encoder, other)
    kept = load_refined(tmp_path / "sub-001")
    for key, value in vars(refined.head).items():
        np.testing.assert_array_equal(getattr(kept.head, key), value)
        assert getattr(kept.head, key).dtype == np.float32
    assert kept.people.tolist() == ["sub-001", "sub-001", "sub-002", "sub-002"]
    assert kept.configuration == CONFIGURATION
    assert kept.origin == origin_of(tmp_path / "sub-001") == ORIGIN
    assert all(torch.equal(kept.encoder.model.state_dict()[k], v) for k, v in other.state_dict().items())


def test_a_head_of_transposed_arrays_is_saved_as_it_looks(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model
) -> None:
    weight = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    row = np.ones(3, np.float32)
    turned = Head(row, row, weight, np.ones(4, np.float32), np.ones(4, np.float32))
    refined = Refined(CONFIGURATION, other, turned, 1, 0.3)
    save_refined(tmp_path / "a", refined, encoder, TARGETS, reports(), ORIGIN)
    np.testing.assert_array_equal(load_refined(tmp_path / "a").head.weight, weight)


def test_scores_of_every_target_and_epoch_are_beside_it(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model
) -> None:
    refined = save(tmp_path / "sub-001", encoder, other)
    table = pq.read_table(tmp_path / "sub-001" / "scores.parquet")
    assert table.column_names == ["subject", "target", "r_before", "r_after", "ceiling", "alpha"]
    assert {str(kind) for kind in table.schema.types} == {"string", "int32", "float"}
    table = table.to_pydict()
    assert table["subject"] == ["sub-001", "sub-001", "sub-002", "sub-002"]
    assert table["target"] == [0, 1, 0, 1]
    np.testing.assert_array_equal(table["ceiling"], np.float32([0.6, np.nan, 0.3, 0.9]))
    np.testing.assert_array_equal(table["r_before"], np.float32([0.1, 0.2, np.nan, 0.4]))
    np.testing.assert_array_equal(table["r_after"], np.float32([0.2, 0.3, np.nan, 0.5]))
    np.testing.assert_array_equal(table["alpha"], refined.head.alpha)
    said = json.loads((tmp_path / "sub-001" / "refined.json").read_text())
    assert (said["epoch"], said["score"]) == (1, 1 / 3)
    assert [epoch["score"] for epoch in said["epochs"]] == [report.score for report in reports()]


def test_how_far_each_part_moved_is_beside_it(tmp_path: Path, encoder: Encoder) -> None:
    model = copy.deepcopy(encoder.model)
    with torch.no_grad():
        for dense in ("intermediate_dense", "output_dense"):
            getattr(model.encoder.layers[2].feed_forward, dense).weight.mul_(1.25)
    save(tmp_path / "sub-001", encoder, model)
    rows = pq.read_table(tmp_path / "sub-001" / "changes.parquet").to_pylist()
    moved = [row for row in rows if row["change"] != 0]
    squares = sum(
        float(getattr(encoder.model.encoder.layers[2].feed_forward, dense).weight.double().square().sum())
        for dense in ("intermediate_dense", "output_dense")
    )
    assert moved[0].pop("norm") == pytest.approx(squares**0.5)
    assert moved == [
        {"type": "feed_forward", "layer": 2, "parameters": 768, "change": pytest.approx(0.25, rel=1e-5)}
    ]
    assert len(rows) == 5 + 4 * 3  # five types below the layers or about them, four in each


def test_what_is_written_is_json_that_other_programs_read(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model
) -> None:
    """Python writes NaN, which JSON doesn't have: epoch 0 has no loss."""
    save(tmp_path / "sub-001", encoder, other)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = (tmp_path / "sub-001" / "refined.json").read_text()
    assert json.loads(text, parse_constant=refuse)["epochs"][0]["loss"] is None


def test_a_new_one_takes_the_place_of_the_old_and_leaves_nothing_beside_it(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model
) -> None:
    save(tmp_path / "sub-001", encoder, other)
    (tmp_path / "sub-001" / "stray").write_text("of the old one")
    refined = save(tmp_path / "sub-001", encoder, encoder.model, seed=1, seed_of="new")
    assert [path.name for path in tmp_path.iterdir()] == ["sub-001"]
    assert not (tmp_path / "sub-001" / "stray").exists()
    kept = load_refined(tmp_path / "sub-001")
    np.testing.assert_array_equal(kept.head.weight, refined.head.weight)
    assert kept.encoder.digest == encoder.digest


@pytest.mark.parametrize("stumbles", ["save_encoder", "save_file", "pq.write_table"])
def test_a_crash_in_the_middle_leaves_the_old_one_untouched(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model, monkeypatch: pytest.MonkeyPatch, stumbles: str
) -> None:
    save(tmp_path / "sub-001", encoder, other)
    before = contents(tmp_path / "sub-001")

    def crash(*args: object, **kwargs: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"{checkpoint.__name__}.{stumbles}", crash)
        with pytest.raises(OSError, match="no space left"):
            save(tmp_path / "sub-001", encoder, encoder.model, seed=1)
    assert contents(tmp_path / "sub-001") == before
    refined = save(tmp_path / "sub-001", encoder, encoder.model, seed=1)  # what was left is no obstacle
    np.testing.assert_array_equal(load_refined(tmp_path / "sub-001").head.bias, refined.head.bias)


@pytest.mark.parametrize("content", [None, "", "[1]", '{"epoch": 1}'])
def test_a_folder_that_holds_none_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "refined.json").write_text(content)
    assert origin_of(tmp_path) is None
    with pytest.raises(DataError) as raised:
        load_refined(tmp_path)
    assert str(raised.value) == f"{tmp_path}: holds no refined encoder; run `wav2bold refine` first"


@pytest.mark.parametrize("name", ["head.safetensors", "scores.parquet"])
@pytest.mark.parametrize("damage", ["cut", "gone", "another's"])
def test_damaged_files_of_the_head_are_named(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model, damage: str, name: str
) -> None:
    save(tmp_path / "sub-001", encoder, other)
    path = tmp_path / "sub-001" / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:50])
    elif damage == "gone":
        path.unlink()
    else:
        theirs = {"head.safetensors": "model.safetensors", "scores.parquet": "changes.parquet"}[name]
        path.write_bytes((tmp_path / "sub-001" / theirs).read_bytes())
    with pytest.raises(DataError) as raised:
        load_refined(tmp_path / "sub-001")
    message = str(raised.value)
    assert message.startswith(f"{path}: can't be read (")
    assert message.endswith("); run `wav2bold refine` again")
    assert "\n" not in message


def test_missing_weights_and_configuration_are_named(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model
) -> None:
    save(tmp_path / "sub-001", encoder, other)
    (tmp_path / "sub-001" / "config.yaml").unlink()
    with pytest.raises(StudyError, match=r"config.yaml: no such file"):
        load_refined(tmp_path / "sub-001")
    (tmp_path / "sub-001" / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"can't be loaded \(Error no file named model.safetensors"):
        load_refined(tmp_path / "sub-001")


def test_weights_of_hidden_states_come_back_bit_by_bit_and_are_told(
    tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model
) -> None:
    weights = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    configuration = CONFIGURATION.model_copy(update={"layers": "weighted"})
    refined = Refined(configuration, other, head(), 1, 0.3, weights)
    save_refined(tmp_path / "a", refined, encoder, TARGETS, reports(), ORIGIN)
    np.testing.assert_array_equal(load_refined(tmp_path / "a").layer_weights, weights)
    file = tmp_path / "a" / "refined.json"
    told = json.loads(file.read_text())
    assert told["layer_weights"] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    file.write_text(json.dumps(told | {"layer_weights": [0.5, 0.5]}))
    with pytest.raises(DataError) as raised:
        load_refined(tmp_path / "a")
    assert str(raised.value) == f"{file}: holds 2 layer_weights; run `wav2bold refine` again"


def test_without_weights_none_are_told(tmp_path: Path, encoder: Encoder, other: Wav2Vec2Model) -> None:
    save(tmp_path / "sub-001", encoder, other)
    assert load_refined(tmp_path / "sub-001").layer_weights is None
    assert "layer_weights" not in json.loads((tmp_path / "sub-001" / "refined.json").read_text())
