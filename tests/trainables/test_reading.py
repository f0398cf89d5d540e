"""What the head reads, whatever was chosen, is what it is scored, saved and evaluated with."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from listeners import RATE_HZ, save_small_wav2vec2
from refining import HISTORY, SOUNDS, TR_S, configuration, material, run
from transformers import AutoFeatureExtractor, Wav2Vec2Model

from wav2bold.config import Configuration, Pooling
from wav2bold.datasets.splits import Stories
from wav2bold.datasets.windows import Windows, windows
from wav2bold.trainables.checkpoint import save_refined
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.evaluate import evaluate
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


def read(folder: str, some: Windows, options: Configuration) -> np.ndarray:
    """(N, P) by transformers alone."""
    length = round(HISTORY * TR_S * RATE_HZ)
    audio = [SOUNDS[str(s)][stop - length : stop] for s, stop in zip(some.story, some.stop, strict=True)]
    inputs = AutoFeatureExtractor.from_pretrained(folder)(
        audio, sampling_rate=RATE_HZ, return_tensors="pt"
    ).input_values
    with torch.no_grad():
        hidden = Wav2Vec2Model.from_pretrained(folder).eval()(inputs).last_hidden_state.numpy()
    return pooled(hidden, options.pooling)


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


@pytest.mark.parametrize("way", POOLINGS)
def test_scores_and_evaluation_are_those_of_what_the_head_was_told_to_read(
    small: Encoder, tmp_path: Path, way: Pooling
) -> None:
    some = of_one(material(small, tmp_path / "store"))
    options = configuration({"attention": (1, 2)}, pooling=way, head_l2=100.0)
    reports, refined = run(some, options)
    folder = tmp_path / "refined"
    save_refined(folder, refined, small, reports, {})
    before, after = read(small.name, some.validation, options), read(str(folder), some.validation, options)
    own = pearson(some.validation.y, refined.head.predict(after))
    np.testing.assert_allclose(reports[refined.epoch].scores, own, atol=1e-3)
    train = read(small.name, some.train, options)
    head = fit_head(train, some.train.y, some.train.story, guard=HISTORY)
    found = evaluate(small, some.shards, some.store, STORIES, "sub-001", folder, HISTORY)
    np.testing.assert_allclose(found.head, own, atol=1e-3)
    np.testing.assert_allclose(found.frozen, pearson(some.validation.y, head.predict(before)), atol=1e-3)
