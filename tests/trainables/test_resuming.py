"""A refinement that is killed goes on from its last epoch to the same numbers, whenever that was."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import save_small_wav2vec2
from lives import FILTERED, Moment, life
from refining import configuration, material
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wav2bold.config import Configuration, Lora
from wav2bold.errors import StorageError
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.parameter_types import unfrozen_names
from wav2bold.trainables.refine import Material, Refined, refine
from wav2bold.trainables.resuming import FILE
from wav2bold.trainables.scores import Report
from wav2bold.trainables.stage2 import Stage2

PLAIN = configuration({"attention": (1, 2)}, epochs=4, encoder_lr=3e-3)
ALL_AT_ONCE = configuration(
    {"attention": (1, 1), "layer_norm": (1, 2)},
    lora=Lora(rank=2, targets=("feed_forward",)),
    epochs=4,
    encoder_lr=3e-2,
    optimiser="muon",
    noise="ar",
    input_noise=0.3,
    anchor_l2=0.01,
    micro_batch=5,
    layers="weighted",
    head_rank=3,
    head="conv_linear",
    conv_kernel=2,
)
QUICK = configuration({"attention": (2, 2)}, epochs=3)
INSIDE_EPOCHS_BETWEEN_THEM_AND_IN_A_WRITE: list[Moment] = [
    ("step", 2),  # in epoch 1
    ("told", 2),  # after it: the first to be told is epoch 0, from the life before
    ("write", 1),  # of epoch 2
    ("write", 2),  # of epoch 3
    ("step", 5),  # in epoch 4
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), "large", do_normalize=False)


@pytest.fixture(scope="module")
def encoder(saved: Path) -> Encoder:
    return load_encoder(str(saved))


def numbers(reports: list[Report], refined: Refined) -> list[object]:
    """All that must be the same, to the bit; NaN is like itself."""
    return [
        [
            (one.epoch, repr(one.loss), repr(one.score), repr(one.white_score), one.last, one.note)
            for one in reports
        ],
        [one.scores.tobytes() for one in reports],
        (refined.epoch, refined.score),
        [value.tobytes() for value in vars(refined.head).values()],
        [value.detach().numpy().tobytes() for value in refined.model.parameters()],
    ]


def ended(
    some: Material, options: Configuration, checkpoint: Path | None = None, seed: int = 0
) -> list[object]:
    reports, generator = [], refine(some, options, seed, checkpoint)
    while True:
        try:
            reports.append(next(generator))
        except StopIteration as stop:
            return numbers(reports, stop.value)


def leave(some: Material, options: Configuration, checkpoint: Path, told: int) -> list[Report]:
    """Refine until so many reports are told, and no further."""
    generator = refine(some, options, 0, checkpoint)
    reports = list(islice(generator, told))
    generator.close()
    return reports


# Killed


@pytest.mark.parametrize("options", [PLAIN, ALL_AT_ONCE], ids=["white and adamw", "ar, muon, adapters"])
def test_whenever_it_is_killed_it_ends_as_if_it_had_not_been(
    saved: Path, tmp_path: Path, options: Configuration
) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, killed):
        folder.mkdir()
        (folder / "encoder").symlink_to(saved)
    undisturbed = life(calm, options)
    assert undisturbed is not None
    for moment in INSIDE_EPOCHS_BETWEEN_THEM_AND_IN_A_WRITE:
        life(killed, options, moment)
    found = life(killed, options)
    assert found is not None
    assert undisturbed.pop("computed").tolist() == [1, 4]
    assert found.pop("computed").tolist() == [0, 1]  # stage 1 once in all lives, of the epochs but the last
    del undisturbed["seconds"]
    assert (np.diff(found.pop("seconds")) > 0).all()
    assert found.keys() == undisturbed.keys()
    for name, value in undisturbed.items():
        assert found[name].tobytes() == value.tobytes(), name
    assert len(set(undisturbed["loss"][1:])) == 4


@pytest.mark.parametrize(
    ("change", "epochs"),
    [
        ({"encoder_lr": 1.0, "warmup_steps": 0, "epochs": 9, "patience": 2}, 3),
        ({"encoder_lr": 1e30}, 2),
        ({"epochs": 0}, 1),
    ],
    ids=["patience", "diverged", "stage 1 alone"],
)
def test_what_ended_early_ends_there_again(
    encoder: Encoder, tmp_path: Path, change: dict[str, object], epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = material(encoder, tmp_path / "store", FILTERED)
    options = QUICK.model_copy(update=change)
    wanted = ended(some, options)
    for told in range(1, epochs):
        leave(some, options, tmp_path / str(told), told)
        assert ended(some, options, tmp_path / str(told)) == wanted
    whole = tmp_path / "whole"
    assert leave(some, options, whole, epochs)[-1].last
    monkeypatch.delattr(Stage2, "__init__")  # nothing is left to train
    assert ended(some, options, whole) == wanted


def test_a_best_epoch_that_is_not_the_last_is_kept(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = material(encoder, tmp_path / "store", FILTERED)
    scores = [0.1, 0.4, 0.2, 0.3]

    def ended_with_these_scores(checkpoint: Path | None, first: int) -> list[object]:
        told = iter(score for score in scores[first:] for _ in range(2))  # of each epoch plain and white
        monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda _: next(told))
        return ended(some, ALL_AT_ONCE.model_copy(update={"epochs": 3}), checkpoint)

    wanted = ended_with_these_scores(None, 0)
    assert wanted[2] == (1, 0.4)
    for left in (1, 2, 3):
        told = iter(score for score in scores for _ in range(2))
        monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda _, told=told: next(told))
        checkpoint = tmp_path / str(left)
        leave(some, ALL_AT_ONCE.model_copy(update={"epochs": 3}), checkpoint, left)
        assert ended_with_these_scores(checkpoint, left) == wanted


@pytest.mark.parametrize(("head", "widths"), [("conv_linear", (3, 2)), ("shared", (3, 3))])
def test_whatever_the_head_is_it_goes_on_as_it_was(
    encoder: Encoder, tmp_path: Path, head: str, widths: tuple[int, int]
) -> None:
    some = material(encoder, tmp_path / "store", FILTERED, widths)
    options = QUICK.model_copy(update={"head": head, "head_lr": 1e-2})
    wanted = ended(some, options)
    leave(some, options, tmp_path / "checkpoint", 2)
    assert ended(some, options, tmp_path / "checkpoint") == wanted


def test_fewer_windows_at_once_stay_fewer(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Hearing.pooled

    def small_memory(self: Hearing, model: object, below: torch.Tensor, *_: object) -> torch.Tensor:
        if len(below) > 5 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(self, model, below)

    monkeypatch.setattr(Hearing, "pooled", small_memory)
    some = material(encoder, tmp_path / "store")
    options = QUICK.model_copy(update={"input_noise": 0.3})
    wanted = ended(some, options)
    leave(some, options, tmp_path / "checkpoint", 2)
    caplog.clear()
    assert ended(some, options, tmp_path / "checkpoint") == wanted
    assert not caplog.records


# What is in it


def test_it_holds_what_is_trained_and_nothing_of_what_is_frozen(encoder: Encoder, tmp_path: Path) -> None:
    some, checkpoint = material(encoder, tmp_path / "store"), tmp_path / "checkpoint"
    options = configuration({"layer_norm": (2, 2)}, epochs=2)
    leave(some, options, checkpoint, 3)
    assert [path.name for path in checkpoint.iterdir()] == [FILE]
    with safe_open(checkpoint / FILE, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    names = set(unfrozen_names(encoder, options.unfrozen))
    before = "training.parameters."
    assert {name.removeprefix(before) for name in shapes if name.startswith(before)} == names
    trained = sum(value.numel() for name, value in encoder.model.named_parameters() if name in names)
    features, targets = shapes["head.weight"]
    of_head = features * targets + targets
    # now, in the best epoch, and AdamW's two moments; then mean, sd and alpha, noise, scores, steps
    held = sum(int(np.prod(shape)) for shape in shapes.values())
    small = 2 * features + targets + 3 * targets + 2 * len(names) + 20
    assert held <= 4 * (trained + of_head) + small
    assert held < encoder.model.num_parameters() - trained


def test_features_are_in_it_only_where_bold_was_filtered(encoder: Encoder, tmp_path: Path) -> None:
    for name, cleaning in (("plain", {}), ("filtered", {"cleaning": FILTERED})):
        some = material(encoder, tmp_path / "store", **cleaning)
        leave(some, QUICK, tmp_path / name, 2)
        with safe_open(tmp_path / name / FILE, "pt") as file:
            held = [key for key in file.keys() if "drift" in key]  # noqa: SIM118
        assert held == (["training.drift.features", "training.drift.share"] if cleaning else [])


# What can't be used


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def of_other_shape(path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        tensors["head.weight"] = tensors["head.weight"].T.contiguous()

    rewritten(path, change)


def with_a_better_score(path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        assert '"score": 0.' in metadata["place"]
        metadata["place"] = metadata["place"].replace('"score": 0.', '"score": 9.')

    rewritten(path, change)


def not_ours(path: Path) -> None:
    save_file({"head": torch.zeros(3)}, path)


@pytest.mark.parametrize("damage", [cut, emptied, flipped, of_other_shape, with_a_better_score, not_ours])
def test_a_damaged_one_is_told_of_in_a_line_and_the_refinement_begins_anew(
    encoder: Encoder, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    some, checkpoint = material(encoder, tmp_path / "store"), tmp_path / "checkpoint"
    wanted = ended(some, QUICK)
    leave(some, QUICK, checkpoint, 2)
    damage(checkpoint / FILE)
    caplog.clear()
    assert ended(some, QUICK, checkpoint) == wanted
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith(f"{checkpoint / FILE}: the checkpoint is damaged (")
    assert said.endswith("); the refinement begins anew")
    assert "\n" not in said
    caplog.clear()
    assert ended(some, QUICK, checkpoint) == wanted  # from the whole one that took its place
    assert not caplog.records


def test_another_refinements_is_never_mixed_in(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some, checkpoint = material(encoder, tmp_path / "store"), tmp_path / "checkpoint"
    fewer = material(encoder, tmp_path / "store", train=["ferry"])
    longer = QUICK.model_copy(update={"epochs": 4})
    card = replace(some.shards.card, digest="of other recordings")
    elsewhere = replace(some, shards=replace(some.shards, card=card))
    for told, (other, options, seed) in {
        "seed": (some, QUICK, 1),
        "configuration": (some, longer, 0),
        "windows": (fewer, QUICK, 0),
        "dataset": (elsewhere, QUICK, 0),
    }.items():
        leave(some, QUICK, checkpoint, 2)
        caplog.clear()
        assert ended(other, options, checkpoint, seed) == ended(other, options, None, seed)
        assert [record.getMessage() for record in caplog.records] == [
            f"{checkpoint / FILE}: the checkpoint was made with other {told}; the refinement begins anew"
        ]


def test_a_disk_that_refuses_is_named_and_the_older_one_stays(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, checkpoint = material(encoder, tmp_path / "store"), tmp_path / "checkpoint"
    leave(some, QUICK, checkpoint, 2)
    before = (checkpoint / FILE).read_bytes()

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("wav2bold.trainables.resuming.save_file", full)
    with pytest.raises(StorageError, match=f"{FILE}: can't be written .*No space left.*; make room there"):
        ended(some, QUICK, checkpoint)
    assert (checkpoint / FILE).read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=FILE):
        ended(some, QUICK, tmp_path / "file" / "checkpoint")
