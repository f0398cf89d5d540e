"""Stage 2's training: what memory, optimisers and penalties do, and what they must not."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import save_small_wav2vec2
from refining import TR_S, Unfrozen, configuration, material, run

from wav2bold.config import Configuration
from wav2bold.errors import DataError, UserError
from wav2bold.trainables.drift import Drift
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.noise import WHITE, Clock, NoiseModel
from wav2bold.trainables.refine import Material, Report, ceiling_weights
from wav2bold.trainables.stage1 import fit_head_in_noise
from wav2bold.trainables.stage2 import Stage2
from wav2bold.trainables.torch_head import Criterion
from wav2bold.trainables.unfreezing import unfreeze

AR = NoiseModel(0.7 ** np.arange(9.0), np.array([0.7, *([0.0] * 7)]))
ATTENTION: Unfrozen = {"attention": (1, 2)}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), "large", False)))


def training(some: Material, options: Configuration, noise: NoiseModel = WHITE) -> Stage2:
    unfrozen = unfreeze(some.encoder, options)
    hearing = Hearing(
        some.encoder,
        some.shards,
        some.store,
        some.train,
        options.history,
        unfrozen.boundary,
        options.pooling,
        options.layers,
    )
    drift = Drift(some.train, some.shards.card.cleaning)
    head = fit_head_in_noise(drift.removed(hearing.frozen_pooled), some.train, TR_S, noise, options.head_l2)
    clock = Clock.of(some.train, TR_S)
    criterion = Criterion(
        some.train.y, some.train.subject, clock, noise, options.loss, None, some.encoder.device
    )
    return Stage2(unfrozen.model, hearing, head, criterion, drift, options, 0)


def weights(one: Stage2) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in one.model.named_parameters()}


@pytest.mark.parametrize("noise", [WHITE, AR], ids=["white", "ar"])
@pytest.mark.parametrize("micro", [1, 3, 8, 11])
@pytest.mark.parametrize("loss", ["mse", "corr"])
def test_fewer_windows_at_once_give_the_same_steps(
    encoder: Encoder, tmp_path: Path, noise: NoiseModel, micro: int, loss: str
) -> None:
    """Also fewer than a block, whose errors depend on each other."""
    some = material(encoder, tmp_path)
    # a strong penalty: a random encoder's nearly constant features would make rounding large
    options = configuration(ATTENTION, loss=loss, head_l2=100.0, batch=16, anchor_l2=0.01)
    whole = training(some, options, noise)
    parts = training(some, options.model_copy(update={"micro_batch": micro}), noise)
    for epoch in (1, 2):
        assert parts.epoch(epoch) == pytest.approx(whole.epoch(epoch), rel=1e-5)
    for name, value in weights(parts).items():
        np.testing.assert_allclose(value, weights(whole)[name], atol=2e-6)
    np.testing.assert_allclose(parts.head.weight, whole.head.weight, atol=1e-5)


def test_fewer_windows_at_once_move_the_weights_of_hidden_states_alike(
    encoder: Encoder, tmp_path: Path
) -> None:
    some = material(encoder, tmp_path)
    options = configuration(ATTENTION, layers="weighted", head_l2=100.0, head_lr=1e-2, batch=16)
    whole = training(some, options, AR)
    parts = training(some, options.model_copy(update={"micro_batch": 3}), AR)
    np.testing.assert_array_equal(whole.layer_weights, np.full(4, 0.25))
    for epoch in (1, 2):
        assert parts.epoch(epoch) == pytest.approx(whole.epoch(epoch), rel=1e-5)
    np.testing.assert_allclose(parts.layer_weights, whole.layer_weights, atol=2e-6)
    assert np.abs(whole.layer_weights - 0.25).max() > 1e-3


def test_where_memory_runs_out_fewer_windows_go_at_once_and_steps_stay_what_they_are(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    some = material(encoder, tmp_path)
    options = configuration(ATTENTION)
    whole = training(some, options, AR)
    wanted = [whole.epoch(1), whole.epoch(2)]
    plain = Hearing.pooled

    def small_memory(self: Hearing, model: object, below: torch.Tensor, *_: object) -> torch.Tensor:
        if len(below) > 5 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(self, model, below)

    monkeypatch.setattr(Hearing, "pooled", small_memory)
    scarce = training(some, options, AR)
    with caplog.at_level(logging.WARNING):
        assert [scarce.epoch(1), scarce.epoch(2)] == pytest.approx(wanted, rel=1e-5)
    assert scarce.micro_batch == 4
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"out of memory: {count} windows at once from here on, 16 in a step as before" for count in (8, 4)
    ]


def test_where_not_even_one_window_fits_it_fails_with_a_cure(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    one = training(material(encoder, tmp_path), configuration(ATTENTION))
    monkeypatch.setattr(one, "_pooled", no_memory)
    with pytest.raises(UserError, match="out of memory with one window of 2 TRs; shorten history"):
        one.epoch(1)


def test_another_error_is_not_taken_for_a_lack_of_memory(encoder: Encoder, tmp_path: Path) -> None:
    def wrong(*_: object) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    one = training(material(encoder, tmp_path), configuration(ATTENTION))
    one._pooled = wrong
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        one.epoch(1)


def test_a_step_of_muon_changes_the_share_of_a_matrix_that_the_rate_says(
    encoder: Encoder, tmp_path: Path
) -> None:
    options = configuration(
        {"attention": None, "feed_forward": None, "bias": (0, 2)},
        optimiser="muon",
        encoder_lr=0.03,
        warmup_steps=0,
        weight_decay=0.0,
        epochs=1,
    )
    one = training(material(encoder, tmp_path), options)
    before = weights(one)
    one.step((np.arange(16),))
    changed = {name: value - before[name] for name, value in weights(one).items()}
    matrices = [name for name in changed if changed[name].any() and changed[name].ndim == 2]
    assert len(matrices) == 3 * (4 + 2)
    for name in matrices:
        # Newton-Schulz's singular values lie between 0.7 and 1.2, but for those that are nearly 0
        assert 0.01 < float(changed[name].norm() / before[name].norm()) < 0.04
    biases = [name for name in changed if changed[name].any() and changed[name].ndim == 1]
    assert len(biases) == 3 * (4 + 2)
    for name in (name for name in biases if "k_proj" not in name):  # nothing depends on a key's bias
        size = before[name].square().mean().sqrt()
        assert float(changed[name].abs().max()) == pytest.approx(0.03 * float(size), rel=0.05)


def test_an_anchor_holds_the_weights_near_where_they_began(encoder: Encoder, tmp_path: Path) -> None:
    some = material(encoder, tmp_path)
    away = []
    for anchor in (0.0, 100.0):
        one = training(some, configuration(ATTENTION, anchor_l2=anchor, weight_decay=0.0, clip=1e6))
        before = weights(one)
        one.epoch(1)
        one.epoch(2)
        away.append(sum(float((value - before[name]).square().sum()) for name, value in weights(one).items()))
    assert away[1] < 0.5 * away[0]


def test_noise_on_the_input_is_drawn_anew_but_the_same_for_a_seed(encoder: Encoder, tmp_path: Path) -> None:
    some = material(encoder, tmp_path)
    options = configuration(ATTENTION, input_noise=0.5)
    one, same = training(some, options), training(some, options)
    assert one.epoch(1) == same.epoch(1)
    rows = np.arange(8)
    first = one._features(rows)
    assert torch.equal(first, one._features(rows))
    assert torch.allclose(one._features(rows[3:5]), first[3:5], atol=1e-6)  # whatever else is heard beside
    one._steps += 1
    assert not torch.allclose(one._features(rows), first, atol=1e-3)
    assert training(some, configuration(ATTENTION)).epoch(1) != pytest.approx(same.epoch(2), rel=1e-6)


def test_half_precision_is_near_to_full(encoder: Encoder, tmp_path: Path) -> None:
    some = material(encoder, tmp_path)
    full, half = (
        training(some, configuration(ATTENTION, precision=precision, head_l2=100.0)).epoch(1)
        for precision in ("float32", "bfloat16")
    )
    assert half == pytest.approx(full, rel=0.05)
    one = training(some, configuration(ATTENTION))
    rows = np.arange(4)
    with torch.autocast("cpu", torch.bfloat16):  # what varies little beside its mean is not rounded
        assert one._pooled(one.model, one._hearing.below(rows), rows).dtype == torch.float32
    assert half != full


def test_without_a_better_epoch_for_long_it_ends_early(encoder: Encoder, tmp_path: Path) -> None:
    some = material(encoder, tmp_path)
    options = configuration(ATTENTION, encoder_lr=1.0, warmup_steps=0, epochs=9, patience=2)
    reports, refined = run(some, options)
    assert refined.epoch == 0
    assert [report.epoch for report in reports] == [0, 1, 2]
    assert [report.last for report in reports] == [False, False, True]


def test_a_target_counts_by_the_square_of_its_ceiling(encoder: Encoder, tmp_path: Path) -> None:
    some = material(encoder, tmp_path)
    ceilings = {"sub-001": [0.6, 0.3, np.nan], "sub-002": [0.9, -0.1]}

    def told() -> Material:
        shards = replace(
            some.shards, targets_told={who: {"ceiling": values} for who, values in ceilings.items()}
        )
        return replace(some, shards=shards)

    mean = (0.36 + 0.09 + 0.81 + 0) / 4
    np.testing.assert_allclose(
        ceiling_weights(told()), [0.36 / mean, 0.09 / mean, 1, 0.81 / mean, 0], rtol=1e-6
    )
    ceilings |= {"sub-001": [np.nan] * 3, "sub-002": [np.nan] * 2}
    with pytest.raises(DataError, match="weight_by_ceiling: no target has a noise ceiling"):
        ceiling_weights(told())


def test_where_noise_is_modelled_both_scores_are_told(encoder: Encoder, tmp_path: Path) -> None:
    some = material(encoder, tmp_path)

    def told(**options: object) -> list[Report]:
        return run(some, configuration(ATTENTION, epochs=1, **options))[0]

    for report in told(noise="white"):
        assert report.white_score == pytest.approx(report.score)
    for report in told(noise="ar"):
        assert report.white_score != pytest.approx(report.score, abs=1e-4)


def test_a_head_that_adam_fits_is_near_to_that_of_ridge(encoder: Encoder, tmp_path: Path) -> None:
    some = material(encoder, tmp_path)
    ridge, adam = (run(some, configuration({}, stage1=way, head_l2=100.0)) for way in ("ridge", "adam"))
    assert adam[1].head.weight.tobytes() != ridge[1].head.weight.tobytes()
    np.testing.assert_array_equal(adam[1].head.alpha, ridge[1].head.alpha)
    np.testing.assert_allclose(adam[0][0].scores, ridge[0][0].scores, atol=5e-3)
