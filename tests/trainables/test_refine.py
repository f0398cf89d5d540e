"""Refinement is the plain loop, only with what is frozen read from a store; and it changes what it says."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from listeners import RATE_HZ, save_small_wav2vec2
from refining import HISTORY, SOUNDS, TR_S, Unfrozen, configuration, material, run
from scipy import stats
from small_encoders import save_small
from transformers import AutoFeatureExtractor, Wav2Vec2Model

from wav2bold.config import Cleaning, Configuration, Lora
from wav2bold.datasets.windows import Windows
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.noise import WHITE, Clock
from wav2bold.trainables.optimisers import warmup_cosine
from wav2bold.trainables.parameter_types import boundary_of, unfrozen_names
from wav2bold.trainables.refine import Material, Refined
from wav2bold.trainables.ridge import fit_head
from wav2bold.trainables.torch_head import Criterion, TorchHead


@pytest.fixture(scope="module", params=["base", "large"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    large = request.param == "large"
    folder = save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), request.param, do_normalize=not large)
    return load_encoder(str(folder))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), "large", False)))


# The plain loop


def inputs_of(encoder: Encoder, some: Windows) -> torch.Tensor:
    extractor = AutoFeatureExtractor.from_pretrained(encoder.name)
    length = round(HISTORY * TR_S * RATE_HZ)
    audio = [SOUNDS[str(s)][stop - length : stop] for s, stop in zip(some.story, some.stop, strict=True)]
    return extractor(audio, sampling_rate=RATE_HZ, return_tensors="pt").input_values


def features_of(model: Wav2Vec2Model, inputs: torch.Tensor) -> torch.Tensor:
    """At a TR of 1 s and 20 ms a frame: 50 frames, then those that remain (the window's last is cut)."""
    hidden = model(inputs).last_hidden_state
    return torch.cat([hidden[:, :50].mean(1), hidden[:, 50:].mean(1)], dim=1)


def mean_r(y: np.ndarray, predicted: np.ndarray) -> float:
    rs = []
    for v in range(y.shape[1]):
        there = np.isfinite(y[:, v])
        rs.append(stats.pearsonr(y[there, v], predicted[there, v]).statistic)
    return float(np.mean(rs))


def plain_loop(some: Material, options: Configuration, seed: int) -> tuple[list[float], list[float]]:
    """Losses and scores of each epoch as a lab would compute them: everything, every time."""
    model = copy.deepcopy(some.encoder.model)
    names = unfrozen_names(some.encoder, options.unfrozen)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    encoder_parameters = [p for p in model.parameters() if p.requires_grad]
    train, validation = inputs_of(some.encoder, some.train), inputs_of(some.encoder, some.validation)
    with torch.no_grad():
        frozen = features_of(model, train).numpy()
        held_out = features_of(model, validation).numpy()
    head = fit_head(frozen, some.train.y, some.train.story, options.head_l2)
    mean, sd, alpha = (torch.from_numpy(value) for value in (head.mean, head.sd, head.alpha))
    weight = torch.from_numpy(head.weight.copy()).requires_grad_()
    bias = torch.from_numpy(head.bias.copy()).requires_grad_()
    of_head = [weight, bias]
    if options.head == "conv_linear":
        convolution = torch.nn.Conv1d(16, 16, options.conv_kernel, groups=16, bias=False)
        with torch.no_grad():
            convolution.weight.zero_()[:, :, -1] = 1
        of_head.append(convolution.weight)

    def predict(features: torch.Tensor) -> torch.Tensor:
        standard = (features - mean) / sd
        if options.head == "conv_linear":
            in_time = standard.unflatten(1, (HISTORY, 16)).mT
            padded = torch.nn.functional.pad(in_time, (options.conv_kernel - 1, 0))
            standard = convolution(padded).mT.flatten(1)
        return standard @ weight + bias

    optimiser = torch.optim.AdamW(
        [
            {"params": encoder_parameters, "weight_decay": options.weight_decay},
            {"params": of_head, "weight_decay": 0.0},
        ]
    )
    y, count = torch.from_numpy(some.train.y), len(some.train)
    steps = -(-count // options.batch) * options.epochs
    losses, scores, step = [], [mean_r(some.validation.y, head.predict(held_out))], 0
    for epoch in range(1, options.epochs + 1):
        order = np.random.default_rng([seed, epoch]).permutation(count)
        of_steps = []
        for first in range(0, count, options.batch):
            rows = order[first : first + options.batch]
            if step < options.warmup_steps:
                share = (step + 1) / options.warmup_steps
            else:
                place = (step - options.warmup_steps) / (steps - options.warmup_steps)
                share = (1 + np.cos(np.pi * place)) / 2
            optimiser.param_groups[0]["lr"] = options.encoder_lr * share
            optimiser.param_groups[1]["lr"] = options.head_lr * share
            predicted = predict(features_of(model, train[rows]))
            there = torch.isfinite(y[rows])
            loss = (predicted[there] - y[rows][there]).square().mean()
            of_features = predict(torch.diag(sd) + mean) - bias  # what stands for each of them by itself
            penalty = (alpha * of_features.square().sum(0)).sum() / torch.isfinite(y).sum()
            optimiser.zero_grad()
            (loss + penalty).backward()
            torch.nn.utils.clip_grad_norm_([*encoder_parameters, *of_head], options.clip)
            optimiser.step()
            of_steps.append(loss.item())
            step += 1
        losses.append(float(np.mean(of_steps)))
        with torch.no_grad():
            predicted = predict(features_of(model, validation))
        scores.append(mean_r(some.validation.y, predicted.numpy()))
    return losses, scores


@pytest.mark.parametrize(
    ("unfrozen", "boundary"),
    [
        ({"conv": None}, "audio"),
        ({"projection": None, "layer_norm": (1, 2)}, "conv"),
        ({"positional": None}, "conv"),
        ({"attention": None, "feed_forward": None}, "layer0"),
        ({"attention": (1, 2)}, "layer1"),
        ({"feed_forward": (2, 2), "layer_norm": (2, 2)}, "layer2"),
    ],
)
def test_refining_from_the_store_is_the_plain_loop(
    encoder: Encoder, unfrozen: Unfrozen, boundary: str, tmp_path: Path
) -> None:
    # a strong penalty: a random encoder's nearly constant features would make rounding large
    some = material(encoder, tmp_path)
    options = configuration(unfrozen, head_l2=100.0, encoder_lr=3e-4, epochs=3)
    assert str(boundary_of(encoder, unfrozen_names(encoder, unfrozen))) == boundary
    assert np.isnan(some.train.y).any()
    reports, _ = run(some, options, seed=3)
    losses, scores = plain_loop(some, options, seed=3)
    np.testing.assert_allclose([report.loss for report in reports[1:]], losses, rtol=1e-5)
    np.testing.assert_allclose([report.score for report in reports], scores, atol=1e-4)
    assert len(set(losses)) == 3


def test_a_head_that_convolves_is_refined_as_in_the_plain_loop(small: Encoder, tmp_path: Path) -> None:
    """The kernel is torch's own, for two people together, and begins where the ridge alone is."""
    some = material(small, tmp_path)
    options = configuration(
        {"attention": (2, 2)}, head="conv_linear", conv_kernel=2, head_l2=100.0, head_lr=3e-2, epochs=3
    )
    reports, _ = run(some, options, seed=3)
    losses, scores = plain_loop(some, options, seed=3)
    np.testing.assert_allclose([report.loss for report in reports[1:]], losses, rtol=1e-5)
    np.testing.assert_allclose([report.score for report in reports], scores, atol=1e-4)
    linear, _ = run(some, options.model_copy(update={"head": "linear"}), seed=3)
    assert reports[0].scores.tobytes() == linear[0].scores.tobytes()
    assert reports[3].loss != pytest.approx(linear[3].loss, rel=1e-4)


def test_stage_2_starts_where_its_loss_is_at_a_minimum_in_the_head(small: Encoder, tmp_path: Path) -> None:
    """Also where a subject lacks volumes: the gradient of loss and penalty together is zero."""
    some = material(small, tmp_path)
    with torch.no_grad():
        features = features_of(small.model, inputs_of(small, some.train))
    tuned = TorchHead(fit_head(features.numpy(), some.train.y, some.train.story, 2.0), small.device)
    clock = Clock.of(some.train, TR_S)
    criterion = Criterion(some.train.y, some.train.subject, clock, WHITE, "mse", None, small.device)
    all_rows = [np.arange(len(some.train))]
    assert np.isnan(some.train.y).any()
    count = criterion.count(all_rows)
    assert count == np.isfinite(some.train.y).sum()
    loss, penalty = criterion.total(all_rows, tuned(features)) / count, tuned.penalty() / count
    of_loss = torch.autograd.grad(loss, tuned.parameters[0], retain_graph=True)[0]
    of_both = torch.autograd.grad(loss + penalty, tuned.parameters)
    assert max(gradient.abs().max() for gradient in of_both) < 1e-3 * of_loss.abs().max()


# What changes and what does not


def trained(some: Material, unfrozen: Unfrozen, monkeypatch: pytest.MonkeyPatch) -> Refined:
    """Refined for three epochs, of which the last counts as the best."""
    rising = iter(range(9))
    monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda scores: next(rising))
    _, refined = run(some, configuration(unfrozen, epochs=3))
    assert refined.epoch == 3
    return refined


@pytest.mark.parametrize(
    "unfrozen",
    [{"attention": (2, 2)}, {"feed_forward": None, "layer_norm": (0, 1)}, {"conv": None}, {"bias": (1, 1)}],
    ids=str,
)
def test_what_is_frozen_stays_bit_by_bit_and_all_else_moves(
    small: Encoder, unfrozen: Unfrozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: value.clone() for name, value in small.model.named_parameters()}
    refined = trained(material(small, tmp_path), unfrozen, monkeypatch)
    names = set(unfrozen_names(small, unfrozen))
    moved = {name for name, value in refined.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == names
    for name, value in small.model.named_parameters():  # and the pretrained one never does
        assert torch.equal(value, before[name])
        assert not value.requires_grad


@pytest.mark.parametrize("kind", ["wav2vec2-base", "hubert-large", "wavlm-large", "data2vec-base"])
def test_every_family_is_refined_with_adapters_and_hears_by_itself_what_was_scored(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the store above layer 0 and with adapters; then by transformers' own forward, without either."""
    encoder = load_encoder(str(save_small(tmp_path / "encoder", kind)))
    some = material(encoder, tmp_path / "store")
    rising = iter(range(9))
    monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda scores: next(rising))
    reports, refined = run(
        some, configuration({"layer_norm": (2, 2)}, lora=Lora(rank=2, layers=(1, 2)), head_l2=100.0)
    )
    assert refined.epoch == 2
    before = dict(encoder.model.named_parameters())
    assert before.keys() == dict(refined.model.named_parameters()).keys()
    moved = {name for name, value in refined.model.named_parameters() if not torch.equal(value, before[name])}
    assert {".".join(name.split(".")[:3]) for name in moved} == {"encoder.layers.1", "encoder.layers.2"}
    assert len(moved) == 2 * 6 + 4
    with torch.no_grad():
        features = features_of(refined.model, inputs_of(encoder, some.validation)).numpy()
    own, scored = mean_r(some.validation.y, refined.head.predict(features)), reports[2].scores.mean()
    assert own == pytest.approx(scored, abs=1e-4)
    assert abs(scored - reports[0].scores.mean()) > 1e-3


def test_the_same_seed_gives_the_same_bits_and_another_gives_others(small: Encoder, tmp_path: Path) -> None:
    def once(folder: str, seed: int) -> tuple[list[float], list[bytes], bytes]:
        some = material(small, tmp_path / folder, validation=["ferry"])
        lora = Lora(rank=2, targets=("feed_forward",))
        reports, refined = run(some, configuration({"attention": None}, lora=lora), seed)
        weights = [value.detach().numpy().tobytes() for value in refined.model.parameters()]
        numbers = [report.loss for report in reports[1:]] + [report.score for report in reports]
        return numbers, weights, refined.head.weight.tobytes()

    one, two = once("one", 0), once("two", 0)
    assert one == two
    assert once("one", 0) == one  # now with everything already in the store
    assert once("one", 1)[0] != one[0]


def test_the_epoch_that_validation_prefers_is_kept(small: Encoder, tmp_path: Path) -> None:
    """A step so large that learning by heart goes up and down."""
    some = material(small, tmp_path, validation=["ferry", "bakery"])
    reports, refined = run(
        some, configuration({"attention": None}, epochs=6, encoder_lr=3e-2, warmup_steps=0)
    )
    scores = [report.score for report in reports]
    assert [report.epoch for report in reports] == list(range(7))
    assert refined.score == max(scores)
    assert refined.epoch == int(np.argmax(scores))
    assert refined.epoch < 6 or scores != sorted(scores)
    with torch.no_grad():
        features = features_of(refined.model, inputs_of(small, some.validation)).numpy()
    assert mean_r(some.validation.y, refined.head.predict(features)) == pytest.approx(refined.score, abs=1e-4)


def test_where_nothing_helps_epoch_0_is_kept(small: Encoder, tmp_path: Path) -> None:
    some = material(small, tmp_path)
    reports, refined = run(some, configuration({"attention": None}, encoder_lr=1, warmup_steps=0, epochs=1))
    assert reports[1].score < reports[0].score
    assert (refined.epoch, refined.score) == (0, reports[0].score)
    assert refined.model is small.model


def test_with_nothing_unfrozen_there_is_only_epoch_0(small: Encoder, tmp_path: Path) -> None:
    reports, refined = run(material(small, tmp_path), configuration({}))
    assert [report.epoch for report in reports] == [0]
    assert np.isnan(reports[0].loss)
    assert refined.epoch == 0


def test_reports_say_r_of_every_target_and_time_that_passes(small: Encoder, tmp_path: Path) -> None:
    reports, _ = run(material(small, tmp_path), configuration({"attention": (2, 2)}))
    for report in reports:
        assert report.scores.shape == (5,)
        assert report.score == pytest.approx(report.scores.mean())
    assert 0 < reports[0].seconds < reports[1].seconds < reports[2].seconds


def test_where_bold_was_filtered_a_drift_in_the_sound_predicts_nothing(
    small: Encoder, tmp_path: Path
) -> None:
    """Stage 1 on features without drift equals scipy's linear detrending of them."""
    from scipy.signal import detrend

    some = material(small, tmp_path, Cleaning(high_pass_s=None, detrend=True))
    reports, _ = run(some, configuration({}))

    def detrended(part: Windows) -> np.ndarray:
        with torch.no_grad():
            features = features_of(small.model, inputs_of(small, part)).numpy().astype(np.float64)
        for story in np.unique(part.story):
            features[part.story == story] = detrend(features[part.story == story], axis=0)
        return features.astype(np.float32)

    head = fit_head(detrended(some.train), some.train.y, some.train.story, guard=HISTORY)
    truth = mean_r(some.validation.y, head.predict(detrended(some.validation)))
    assert reports[0].score == pytest.approx(truth, abs=1e-3)
    plain, _ = run(material(small, tmp_path), configuration({}))
    assert abs(plain[0].score - truth) > 0.01


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_loss_that_is_no_number_ends_it_with_the_best_epoch_and_names_step_and_rate(
    small: Encoder, tmp_path: Path, epochs: int
) -> None:
    # the study file allows no more than 1
    options = configuration({"attention": None}, epochs=epochs).model_copy(update={"encoder_lr": 1e30})
    reports, refined = run(material(small, tmp_path), options)
    assert [report.last for report in reports] == [False, True]
    assert np.isnan(reports[1].loss)
    assert reports[1].note == (
        "the loss stopped being a number in step 2 at an encoder_lr of 1e+30; epoch 0 was kept; "
        "lower encoder_lr"
    )
    assert (refined.epoch, refined.score, refined.model) == (0, reports[0].score, small.model)
    assert reports[1].score == refined.score


def test_the_learning_rate_rises_straight_and_falls_as_a_cosine() -> None:
    shares = [warmup_cosine(step, 4, 24) for step in range(25)]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(shares[4:], np.cos(np.linspace(0, np.pi / 2, 21)) ** 2, atol=1e-12)
    assert warmup_cosine(0, 0, 0) == 1
    assert warmup_cosine(9, 100, 10) == pytest.approx(0.1)
