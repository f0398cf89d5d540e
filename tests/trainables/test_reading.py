"""What the head reads, whatever was chosen, is what it is scored, saved and evaluated with."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from listeners import RATE_HZ, save_small_wav2vec2
from refining import HISTORY, SOUNDS, TR_S, Unfrozen, configuration, material, run
from transformers import AutoFeatureExtractor, Wav2Vec2Model

from wav2bold.config import Configuration, Pooling
from wav2bold.datasets.splits import Stories
from wav2bold.datasets.windows import Windows, windows
from wav2bold.errors import UserError
from wav2bold.evaluation.evaluate import evaluate
from wav2bold.trainables.checkpoint import save_refined
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.optimisers import warmup_cosine
from wav2bold.trainables.parameter_types import unfrozen_names
from wav2bold.trainables.people import targets_of
from wav2bold.trainables.refine import Material
from wav2bold.trainables.ridge import fit_head
from wav2bold.trainables.scores import pearson

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
STORIES = Stories(("ferry", "bakery"), ("library",), ("library",))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), "large", False)))


def of_one(some: Material) -> Material:
    train, validation = (
        windows(some.shards, ["sub-001"], stories, HISTORY) for stories in (STORIES.train, STORIES.validation)
    )
    return Material(some.encoder, some.shards, some.store, train, validation)


def read(folder: str, some: Windows, options: Configuration, weights: np.ndarray | None = None) -> np.ndarray:
    """(N, P) by transformers alone. weights: of the hidden states; None for equal ones."""
    with torch.no_grad():
        states = hidden_of(Wav2Vec2Model.from_pretrained(folder).eval(), sounds_of(folder, some))
    each = [pooled(hidden.numpy(), options.pooling) for hidden in states]
    if options.layers == "weighted":
        weights = np.full(4, 0.25) if weights is None else weights
        return sum(weight * one for weight, one in zip(weights, each, strict=True)).astype(np.float32)
    return np.concatenate([each[number] for number in options.layers or (3,)], axis=1)


def sounds_of(folder: str, some: Windows) -> torch.Tensor:
    length = round(HISTORY * TR_S * RATE_HZ)
    audio = [SOUNDS[str(s)][stop - length : stop] for s, stop in zip(some.story, some.stop, strict=True)]
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    return extractor(audio, sampling_rate=RATE_HZ, return_tensors="pt").input_values


def hidden_of(model: Wav2Vec2Model, inputs: torch.Tensor) -> list[torch.Tensor]:
    """All hidden states (N, F, D); the last after the model's own norm."""
    told = model(inputs, output_hidden_states=True)
    return [*told.hidden_states[:-1], told.last_hidden_state]


def pooled(hidden: np.ndarray, way: Pooling) -> np.ndarray:
    """(N, P) of frames (N, F, D), whose middles lie 12.5 ms and so on every 20 ms: 50 in the first TR."""
    if way == "mean":
        return hidden.mean(1)
    if way == "last":
        return hidden[:, 50:].mean(1)
    if way == "tr":
        return np.concatenate([hidden[:, :50].mean(1), hidden[:, 50:].mean(1)], axis=1)
    rows = []
    for centre_s in (0.5, 1.5):
        x = 0.0125 + 0.02 * np.arange(hidden.shape[1]) - centre_s
        weight = np.sinc(x) * np.sinc(x / 3)
        rows.append(np.einsum("f,nfd->nd", weight / weight.sum(), hidden))
    return np.concatenate(rows, axis=1)


@pytest.mark.parametrize(
    ("unfrozen", "choice"),
    [
        *(({"attention": (1, 2)}, {"pooling": way}) for way in POOLINGS),
        ({"attention": None}, {"layers": 2}),
        ({"attention": (1, 1)}, {"layers": (0, 2), "pooling": "lanczos"}),
        ({"attention": (1, 2)}, {"layers": "weighted", "pooling": "mean"}),
        ({"feed_forward": None}, {"layers": "weighted"}),
        ({"attention": (1, 2)}, {"head_rank": 2}),
        ({"attention": (1, 1)}, {"layers": (0, 2), "head": "conv_linear", "head_lr": 0.1}),
    ],
    ids=str,
)
def test_scores_and_evaluation_are_those_of_what_the_head_was_told_to_read(
    small: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unfrozen: Unfrozen,
    choice: dict[str, Any],
) -> None:
    some = of_one(material(small, tmp_path / "store"))
    rising = iter(range(9))
    monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda scores: next(rising))
    options = configuration(unfrozen, head_l2=100.0, **choice)
    reports, refined = run(some, options)
    assert refined.epoch == 2
    assert np.linalg.matrix_rank(refined.head.weight, tol=1e-5) == (options.head_rank or 3)
    folder = tmp_path / "refined"
    save_refined(folder, refined, small, targets_of(some.shards, some.train.subject), reports, {})
    before = read(small.name, some.validation, options)
    after = read(str(folder), some.validation, options, refined.layer_weights)
    own = pearson(some.validation.y, refined.head.predict(after))
    np.testing.assert_allclose(reports[2].scores, own, atol=1e-3)
    found = evaluate(small, some.shards, some.store, STORIES, "sub-001", folder, HISTORY)
    np.testing.assert_allclose(found.head, own, atol=1e-3)
    for scores, name, test in (
        (found.frozen, small.name, before),
        (found.ridge, str(folder), read(str(folder), some.validation, options)),
    ):
        train = read(name, some.train, options)
        head = fit_head(train, some.train.y, some.train.story, guard=HISTORY)
        np.testing.assert_allclose(scores, pearson(some.validation.y, head.predict(test)), atol=2e-3)


def test_weights_of_hidden_states_learn_as_in_the_plain_loop(
    small: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the head's rate, from equal ones, with all hidden states of every step computed anew."""
    some = of_one(material(small, tmp_path))
    rising = iter(range(9))
    monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda scores: next(rising))
    options = configuration(
        {"attention": (2, 2)}, layers="weighted", head_l2=100.0, head_lr=1e-2, batch=4, epochs=3
    )
    reports, refined = run(some, options)
    losses, weights = plain_loop(some, options)
    np.testing.assert_allclose([report.loss for report in reports[1:]], losses, rtol=1e-5)
    np.testing.assert_allclose(refined.layer_weights, weights, atol=1e-5)
    assert np.abs(weights - 0.25).max() > 1e-3


def test_where_no_epoch_helps_the_weights_are_the_equal_ones(small: Encoder, tmp_path: Path) -> None:
    options = configuration({}, layers="weighted")
    _, refined = run(of_one(material(small, tmp_path)), options)
    np.testing.assert_array_equal(refined.layer_weights, np.full(4, 0.25))


def test_a_head_of_lower_rank_begins_as_reduced_rank_regression(small: Encoder, tmp_path: Path) -> None:
    """The ridge's fitted values, on their first principal direction, which predicts what is new alike."""
    some = of_one(material(small, tmp_path))
    options = configuration({}, head_rank=1)
    reports, refined = run(some, options)
    train, validation = (read(small.name, part, options) for part in (some.train, some.validation))
    head = fit_head(train, some.train.y, some.train.story, guard=HISTORY)
    fitted = (train - head.mean) / head.sd @ head.weight
    values, vectors = np.linalg.eigh(fitted.T.astype(np.float64) @ fitted)
    direction = vectors[:, [values.argmax()]]
    truth = (validation - head.mean) / head.sd @ head.weight @ direction @ direction.T
    np.testing.assert_allclose(reports[0].scores, pearson(some.validation.y, truth), atol=1e-3)
    assert np.linalg.matrix_rank(refined.head.weight, tol=1e-5) == 1
    assert reports[0].scores != pytest.approx(pearson(some.validation.y, head.predict(validation)), abs=1e-3)


def test_a_rank_that_the_head_cannot_have_is_refused_before_training(small: Encoder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"head_rank: 4 is out of range: .* 3 targets; the nearest .* is 3"):
        run(of_one(material(small, tmp_path)), configuration({"attention": (2, 2)}, head_rank=4))


def plain_loop(some: Material, options: Configuration) -> tuple[list[float], np.ndarray]:
    """Mean loss of each epoch, and the weights at the end."""
    model = Wav2Vec2Model.from_pretrained(some.encoder.name).eval()
    trained = unfrozen_names(some.encoder, options.unfrozen)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    of_encoder = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inputs, y = sounds_of(some.encoder.name, some.train), torch.tensor(some.train.y)
    features = read(some.encoder.name, some.train, options)
    head = fit_head(features, some.train.y, some.train.story, options.head_l2, guard=HISTORY)
    mean, sd, alpha = (torch.tensor(part) for part in (head.mean, head.sd, head.alpha))
    weight, bias = (torch.tensor(part).requires_grad_() for part in (head.weight, head.bias))
    logits = torch.zeros(4, requires_grad=True)
    of_head = [weight, bias, logits]
    optimiser = torch.optim.AdamW(
        [
            {"params": of_encoder, "weight_decay": options.weight_decay},
            {"params": of_head, "weight_decay": 0.0},
        ]
    )
    steps = -(-len(y) // options.batch) * options.epochs
    losses, step = [], 0
    for epoch in range(1, options.epochs + 1):
        order, of_steps = np.random.default_rng([0, epoch]).permutation(len(y)), []
        for first in range(0, len(y), options.batch):
            rows = order[first : first + options.batch]
            share = warmup_cosine(step, options.warmup_steps, steps)
            for group, rate in zip(
                optimiser.param_groups, (options.encoder_lr, options.head_lr), strict=True
            ):
                group["lr"] = rate * share
            states = torch.stack(hidden_of(model, inputs[rows]))
            hidden = (torch.softmax(logits, 0)[:, None, None, None] * states).sum(0)
            features = torch.cat([hidden[:, :50].mean(1), hidden[:, 50:].mean(1)], dim=1)
            loss = ((features - mean) / sd @ weight + bias - y[rows]).square().mean()
            optimiser.zero_grad()
            (loss + (alpha * weight.square().sum(0)).sum() / y.numel()).backward()
            torch.nn.utils.clip_grad_norm_([*of_encoder, *of_head], options.clip)
            optimiser.step()
            of_steps.append(loss.item())
            step += 1
        losses.append(float(np.mean(of_steps)))
    return losses, torch.softmax(logits, 0).detach().numpy()
