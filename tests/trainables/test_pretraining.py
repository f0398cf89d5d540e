"""Pre-training on the stimuli is what a lab would write with transformers, and BOLD has no part in it."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import RATE_HZ, save_small_wav2vec2, speech
from lives import life
from refining import HISTORY, SOUNDS, TR_S, Unfrozen, configuration, material, run
from small_encoders import save_small
from torch import nn
from transformers import AutoFeatureExtractor, Wav2Vec2ForPreTraining, Wav2Vec2Model

from wav2bold.config import Cleaning, Configuration, Lora
from wav2bold.datasets.teacher import extractor, make_teacher
from wav2bold.datasets.windows import Windows
from wav2bold.errors import EncoderError, StudyError
from wav2bold.trainables.batches import Step
from wav2bold.trainables.checkpoint import save_refined
from wav2bold.trainables.contrastive import ContrastHead, load_head, mask, negatives
from wav2bold.trainables.encoder import Encoder, load_encoder, save_encoder
from wav2bold.trainables.optimisers import warmup_cosine
from wav2bold.trainables.parameter_types import unfrozen_names
from wav2bold.trainables.people import targets_of
from wav2bold.trainables.pretraining import refuse_short
from wav2bold.trainables.refine import Material, refine
from wav2bold.trainables.stage2 import Stage2
from wav2bold.trainables.stretches import StretchedHearing

SMALL = {"num_codevectors_per_group": 8, "num_negatives": 20, "codevector_dim": 16, "proj_codevector_dim": 12}


def save_whole(folder: Path, family: str, seed: int = 0, **options: object) -> Path:
    """A small encoder with the head of pre-training, as a checkpoint of it has."""
    save_small_wav2vec2(folder, family, do_normalize=family == "base", **SMALL, **options)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Wav2Vec2ForPreTraining.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["base", "large"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_whole(tmp_path_factory.mktemp("encoder"), request.param)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_whole(tmp_path_factory.mktemp("encoder"), "large")))


def pretraining(unfrozen: Unfrozen, **options: object) -> Configuration:
    return configuration(unfrozen, objective="pretrain", **options)


# The loop that a lab would write


def sounds_of(encoder: Encoder, some: Windows) -> torch.Tensor:
    extractor = AutoFeatureExtractor.from_pretrained(encoder.name)
    length = round(HISTORY * TR_S * RATE_HZ)
    audio = [SOUNDS[str(s)][stop - length : stop] for s, stop in zip(some.story, some.stop, strict=True)]
    return extractor(audio, sampling_rate=RATE_HZ, return_tensors="pt").input_values


def without_chance(logits: torch.Tensor, tau: float = 1, hard: bool = False) -> torch.Tensor:
    """gumbel_softmax without its noise, which nobody draws alike."""
    soft = torch.softmax(logits / tau, -1)
    one = nn.functional.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
    assert hard
    return one - soft.detach() + soft


def whole_of(encoder: Encoder) -> Wav2Vec2ForPreTraining:
    whole = Wav2Vec2ForPreTraining.from_pretrained(encoder.name).eval().requires_grad_(False)
    whole.quantizer.train()
    whole.set_gumbel_temperature(0.5)
    return whole


def drawn(seeds: Sequence[list[int]], frames: int, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Masks (B, F), and negatives as transformers counts them: among all frames of the batch."""
    masked = np.zeros((len(seeds), frames), bool)
    others = np.zeros((len(seeds), frames, count), np.int64)
    for number, seed in enumerate(seeds):
        random = np.random.default_rng(seed)
        masked[number] = mask(frames, random)
        there = np.flatnonzero(masked[number])
        others[number, there] = number * frames + there[negatives(len(there), count, random)]
    return masked, others


def losses_of_plain_loop(some: Material, options: Configuration, seed: int) -> list[float]:
    whole = whole_of(some.encoder)
    names = unfrozen_names(some.encoder, options.unfrozen)
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_(name.removeprefix("wav2vec2.") in names)
    moving = [each for each in whole.parameters() if each.requires_grad]
    head = [whole.wav2vec2.masked_spec_embed]
    head += [each for name, each in whole.named_parameters() if not name.startswith("wav2vec2.")]
    for each in head:
        each.requires_grad_()
    sounds = sounds_of(some.encoder, some.train)
    optimiser = torch.optim.AdamW(
        [{"params": moving, "weight_decay": options.weight_decay}, {"params": head, "weight_decay": 0.0}]
    )
    per_epoch = -(-len(sounds) // options.batch)
    losses, step = [], 0
    for epoch in range(1, options.epochs + 1):
        order = np.random.default_rng([seed, epoch]).permutation(len(sounds))
        told = []
        for rows in np.split(order, range(options.batch, len(order), options.batch)):
            share = warmup_cosine(step, options.warmup_steps, per_epoch * options.epochs)
            optimiser.param_groups[0]["lr"] = options.encoder_lr * share
            optimiser.param_groups[1]["lr"] = options.head_lr * share
            masked, others = drawn([[seed, step, row] for row in rows], some.encoder.frames(sounds.shape[1]))
            result = whole(
                sounds[rows],
                mask_time_indices=torch.from_numpy(masked),
                sampled_negative_indices=torch.from_numpy(others),
            )
            loss = result.loss / masked.sum()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*moving, *head], options.clip)
            optimiser.step()
            told.append(loss.item())
            step += 1
        losses.append(float(np.mean(told)))
    return losses


@pytest.mark.parametrize(
    "unfrozen",
    [{"conv": None}, {"projection": None, "layer_norm": None}, {"attention": (1, 2), "bias": None}],
    ids=str,
)
def test_its_losses_are_those_of_transformers_own_pre_training(
    encoder: Encoder, unfrozen: Unfrozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.functional, "gumbel_softmax", without_chance)
    some = material(encoder, tmp_path)
    options = pretraining(unfrozen, epochs=2, encoder_lr=3e-4)
    reports, _ = run(some, options, seed=3)
    wanted = losses_of_plain_loop(some, options, seed=3)
    np.testing.assert_allclose([report.loss for report in reports[1:]], wanted, rtol=1e-5)
    assert wanted[1] != wanted[0]


def test_fewer_windows_at_once_give_the_same_steps(encoder: Encoder, tmp_path: Path) -> None:
    """Also of how evenly codes are used, which is one number of all windows of a step."""
    some = material(encoder, tmp_path)
    for unfrozen in ({"conv": None, "layer_norm": None}, {"attention": None}):
        whole, parts = (run(some, pretraining(unfrozen, micro_batch=size, epochs=1)) for size in (None, 5))
        assert parts[0][1].loss == pytest.approx(whole[0][1].loss, rel=1e-5)
        for one, other in zip(parts[1].model.parameters(), whole[1].model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


# It learns


def held_out(
    encoder: Encoder, model: Wav2Vec2Model, head: ContrastHead, some: Windows
) -> tuple[float, float, float]:
    """Loss, how often the true code is told from the others, and how often by chance; by transformers."""
    whole = Wav2Vec2ForPreTraining.from_pretrained(encoder.name, mask_time_prob=0.65).eval()
    whole.wav2vec2.load_state_dict(model.state_dict(), strict=False)
    parts = (
        (whole.quantizer, head.quantizer),
        (whole.project_hid, head.of_hidden),
        (whole.project_q, head.of_code),
    )
    for part, trained in parts:
        part.load_state_dict(trained.state_dict())
    sounds = sounds_of(encoder, some)
    masked, negative = drawn([[5, row] for row in range(len(sounds))], encoder.frames(sounds.shape[1]))
    others, there = torch.from_numpy(negative), torch.from_numpy(masked)
    with torch.no_grad():
        whole.wav2vec2.masked_spec_embed.copy_(head.mask)
        told = whole(sounds, mask_time_indices=there, sampled_negative_indices=others)
    own, codes = (
        nn.functional.normalize(part, dim=-1)
        for part in (told.projected_states, told.projected_quantized_states)
    )
    theirs = codes.flatten(0, 1)[others]
    other_code = (
        told.projected_quantized_states.flatten(0, 1)[others] != told.projected_quantized_states[:, :, None]
    ).any(-1)
    true = (own * codes).sum(-1)[..., None]
    right = ((own[:, :, None] * theirs).sum(-1) < true) | ~other_code
    chance = 1 / (1 + other_code.sum(-1))
    return (
        told.contrastive_loss.item() / masked.sum(),
        right.all(-1)[there].double().mean().item(),
        chance[there].mean().item(),
    )


def test_it_learns_to_tell_codes_of_a_story_that_it_never_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 44 s of speech, of sounds that are hardly longer than what is masked."""
    teacher = make_teacher(speech(60, 9), 0)
    for key, value in (SMALL | {"proj_codevector_dim": 16}).items():
        setattr(teacher.config, key, value)
    save_encoder(tmp_path / "encoder", teacher, extractor())
    encoder = load_encoder(str(tmp_path / "encoder"))
    first, trained = (load_head(encoder.name, 2) for _ in range(2))
    monkeypatch.setattr("wav2bold.trainables.pretraining.load_head", lambda *_: trained)
    some = material(encoder, tmp_path / "store")
    unfrozen: Unfrozen = {"attention": None, "feed_forward": None, "layer_norm": None}
    _, refined = run(some, pretraining(unfrozen, epochs=6, batch=8, warmup_steps=5, weight_decay=0.0), seed=2)
    loss, share, chance = held_out(encoder, refined.model, trained, some.validation)
    before, _, _ = held_out(encoder, encoder.model, first, some.validation)
    of_head, share_of_head, _ = held_out(encoder, encoder.model, trained, some.validation)
    assert loss < before - 0.2
    assert share > 2.5 * chance
    assert loss < of_head - 0.05  # it isn't the head alone that has learned
    assert share > 1.5 * share_of_head


# BOLD has no part in it


def of_noise(some: Material) -> Material:
    """The same sound, heard by somebody else."""
    random = np.random.default_rng(9)
    there = np.isfinite(some.train.y)
    y = np.where(there, random.standard_normal(some.train.y.shape), np.nan).astype(np.float32)
    return replace(some, train=replace(some.train, y=y))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.detach().numpy().tobytes() for name, value in model.named_parameters()}


@pytest.mark.parametrize("noise", ["white", "ar"])
def test_other_bold_gives_the_same_encoder_to_the_bit_and_other_scores(
    small: Encoder, tmp_path: Path, noise: str
) -> None:
    some = material(small, tmp_path)
    options = pretraining(
        {"attention": (1, 2), "layer_norm": None}, noise=noise, optimiser="muon", encoder_lr=3e-2, patience=1
    )
    (reports, one), (others, other) = run(some, options), run(of_noise(some), options)
    assert bits(one.model) == bits(other.model) != bits(small.model)
    assert [report.loss for report in reports[1:]] == [report.loss for report in others[1:]]
    assert all(a.score != b.score for a, b in zip(reports, others, strict=True))


def test_the_last_epoch_is_kept_however_it_scores(
    small: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter(range(100, 0, -1))
    monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda _: next(falling))
    some = material(small, tmp_path)
    reports, refined = run(some, pretraining({"attention": (2, 2)}, epochs=3, patience=1))
    assert [report.epoch for report in reports] == [0, 1, 2, 3]
    assert (refined.epoch, refined.score) == (3, reports[3].score)
    assert refined.score < reports[0].score
    assert bits(refined.model) != bits(small.model)


@pytest.mark.parametrize(
    "change",
    [{}, {"noise": "ar", "head_rank": 2}, {"layers": "weighted"}, {"pooling": "mean", "layers": (1,)}],
    ids=str,
)
def test_an_encoder_that_does_not_move_keeps_its_score(
    small: Encoder, tmp_path: Path, change: dict[str, object]
) -> None:
    """Each report's head is stage 1's, so that scores differ by what became of the encoder alone."""
    some = material(small, tmp_path)
    unfrozen: Unfrozen = {"attention": (0, 0)}
    still, moved = (
        run(some, pretraining(unfrozen, encoder_lr=rate, weight_decay=0.0, **change)) for rate in (1e-30, 0.1)
    )
    first = still[0][0]
    for report in still[0][1:]:
        np.testing.assert_allclose(report.scores, first.scores, atol=2e-4)
        assert report.white_score == pytest.approx(first.white_score, abs=2e-4)
    assert bits(still[1].model) == bits(small.model)
    assert np.abs(moved[0][-1].scores - first.scores).max() > 2e-2


# It is stage 2 in all else


@pytest.mark.parametrize("noise", ["white", "ar"])
def test_each_step_takes_the_windows_that_refinement_takes(
    small: Encoder, tmp_path: Path, noise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of two subjects, each once an epoch whoever heard it."""
    taken: list[list[int]] = []
    step = Stage2.step

    def noted(self: Stage2, one: Step) -> torch.Tensor:
        taken.append(np.concatenate(one).tolist())
        return step(self, one)

    monkeypatch.setattr(Stage2, "step", noted)
    some = material(small, tmp_path)
    options = configuration({"attention": (2, 2)}, noise=noise)
    run(some, options)
    refined = taken.copy()
    taken.clear()
    run(some, options.model_copy(update={"objective": "pretrain"}))
    assert taken == refined
    for epoch in (taken[: len(taken) // 2], taken[len(taken) // 2 :]):
        assert sorted(chain.from_iterable(epoch)) == list(range(len(some.train)))


def test_what_is_frozen_stays_and_the_folder_loads_without_us(small: Encoder, tmp_path: Path) -> None:
    some = material(small, tmp_path / "store")
    options = pretraining({"layer_norm": (2, 2)}, lora=Lora(rank=2, layers=(0, 1), targets=("attention",)))
    reports, refined = run(some, options)
    save_refined(tmp_path / "out", refined, small, targets_of(some.shards, some.train.subject), reports, {})
    loaded = Wav2Vec2Model.from_pretrained(tmp_path / "out")
    before, after = bits(small.model), bits(loaded)
    assert after == bits(refined.model)
    moved = {name.rpartition(".")[0] for name in before if before[name] != after[name]}
    projections = {f"{name}_proj" for name in ("q", "k", "v", "out")}
    adapted = {f"encoder.layers.{layer}.attention.{name}" for layer in (0, 1) for name in projections}
    norms = {f"encoder.layers.2.{name}" for name in ("layer_norm", "final_layer_norm")}
    assert moved == adapted | norms


def test_stretches_go_through_whole_and_hide_what_comes_later(
    small: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = material(small, tmp_path)
    options = pretraining({"attention": (1, 2)}, context="stretch", stretch_s=8.0)
    (reports, one), (_, other) = run(some, options), run(some, options.model_copy(update={"micro_batch": 1}))
    assert bits(one.model) == bits(other.model) != bits(small.model)
    assert all(np.isfinite(report.loss) for report in reports[1:])
    monkeypatch.setattr(StretchedHearing, "attention", lambda *_: None)
    assert run(some, options)[0][1].loss != reports[1].loss


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"noise": "ar", "optimiser": "muon", "encoder_lr": 3e-2, "layers": "weighted", "head_rank": 3}
        | {"lora": Lora(rank=2, targets=("feed_forward",)), "micro_batch": 5, "anchor_l2": 0.01},
    ],
    ids=["plain", "all at once"],
)
def test_whenever_it_dies_it_ends_as_if_it_had_not(
    small: Encoder, tmp_path: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = material(small, tmp_path / "store", Cleaning(high_pass_s=None, detrend=True))
    options = pretraining({"attention": (1, 2)}, epochs=3, **change)
    wanted = run(some, options)
    step = Stage2.step
    alive = 0

    def doomed(self: Stage2, one: Step) -> torch.Tensor:
        nonlocal alive
        alive -= 1
        if alive == 0:
            raise KeyboardInterrupt
        return step(self, one)

    monkeypatch.setattr(Stage2, "step", doomed)
    in_epoch = -(-len(some.train) // options.batch)
    for moment in (2, in_epoch + 2, in_epoch):  # in epochs 1, 2 and 3
        alive = moment
        with pytest.raises(KeyboardInterrupt):
            list(refine(some, options, 0, tmp_path / "checkpoint"))
    reports, found = run(some, options, 0, tmp_path / "checkpoint")
    for one, other in zip(reports, wanted[0], strict=True):
        assert repr(replace(one, seconds=0)) == repr(replace(other, seconds=0))
    assert bits(found.model) == bits(wanted[1].model)
    assert found.head.weight.tobytes() == wanted[1].head.weight.tobytes()
    assert (found.epoch, found.score) == (3, wanted[1].score)


@pytest.mark.parametrize(
    "options",
    [
        pretraining({"attention": (1, 2), "layer_norm": None}, noise="ar", epochs=1, head_l2=100.0),
        pretraining({"bias": None}, context="stretch", stretch_s=6.0, epochs=1, head_l2=100.0),
    ],
    ids=["windows", "stretches"],
)
def test_two_processes_end_where_one_does(small: Encoder, tmp_path: Path, options: Configuration) -> None:
    """Also of how evenly codes are used, and of what stands for masked sound."""
    ends = []
    for size in (1, 2):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "encoder").symlink_to(small.name)
        ends.append(life(folder, options, size=size))
    alone, together = ends
    for name in alone.keys() - {"computed", "seconds", "note"}:
        np.testing.assert_allclose(together[name], alone[name], atol=1e-4, err_msg=name)


def test_what_no_checkpoint_held_is_said(small: Encoder, tmp_path: Path) -> None:
    some = material(small, tmp_path / "store")
    reports, _ = run(some, pretraining({"attention": (2, 2)}, epochs=1))
    assert [report.note for report in reports] == ["", ""]
    small.model.save_pretrained(tmp_path / "alone")
    small.extractor.save_pretrained(tmp_path / "alone")
    alone = load_encoder(str(tmp_path / "alone"))
    reports, _ = run(replace(some, encoder=alone), pretraining({"attention": (2, 2)}, epochs=1))
    assert reports[1].note.startswith("project_hid, project_q, quantizer of pre-training began at random: ")


def test_a_loss_that_is_no_number_ends_it_with_the_epoch_before(small: Encoder, tmp_path: Path) -> None:
    some = material(small, tmp_path)
    for batch in (16, 10_000):  # many steps in an epoch; one, after which the encoder is ruined
        options = pretraining(
            {"attention": None}, encoder_lr=1.0, warmup_steps=0, batch=batch, weight_decay=1e38
        )
        reports, refined = run(some, options)
        assert len(reports) == 2
        assert reports[1].last
        assert "epoch 0 was kept; lower encoder_lr" in reports[1].note
        assert refined.epoch == 0
        assert refined.model is small.model


# Bad input


@pytest.mark.parametrize("kind", ["hubert-base", "wavlm-base", "data2vec-base"])
def test_other_families_are_refused_with_the_cure(kind: str, tmp_path: Path) -> None:
    encoder = load_encoder(str(save_small(tmp_path / "encoder", kind)))
    some = material(encoder, tmp_path / "store")
    with pytest.raises(
        EncoderError, match=r"were not published; give a wav2vec2 as encoder, or set objective"
    ):
        next(refine(some, pretraining({"attention": None}), 0))


def test_windows_too_short_for_masks_are_refused(small: Encoder) -> None:
    refuse_short(small, 0.405, 1)
    with pytest.raises(StudyError, match=r"a history of 1 TRs \(0.4 s\) has 19; lengthen history"):
        refuse_short(small, 0.4, 1)


def test_nothing_to_train_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("objective: pretrain\nunfrozen: {}\n")
    with pytest.raises(
        StudyError, match=r"has nothing to train; name parameter types in unfrozen, or give lora"
    ):
        Configuration.load(file)
    file.write_text("objective: pretrain\nlora: {}\n")
    assert Configuration.load(file).refines
