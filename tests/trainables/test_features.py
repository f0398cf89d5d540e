"""What the head reads is the model's own output averaged over TRs, by whichever way it was computed."""

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from listeners import RATE_HZ, InMemory, in_memory, save_small_wav2vec2, speech, volumes
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, Wav2Vec2Model

from wav2bold.config import HiddenStates, Pooling, StoredType
from wav2bold.datasets.windows import Windows, windows
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Boundary, Encoder, load_encoder
from wav2bold.trainables.families import SpeechModel, through_layers
from wav2bold.trainables.features import Hearing

SECONDS = 12.0
HISTORY = 3
BOUNDARIES = [Boundary("audio"), Boundary("conv"), *(Boundary("layer", n) for n in range(4))]
SOUNDS = {"ferry": speech(SECONDS, 1), "bakery": speech(SECONDS, 2)}
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
FAMILIES = [("base", True), ("base", False), ("large", True), ("large", False)]


@pytest.fixture(
    scope="module", params=FAMILIES, ids=lambda kind: f"{kind[0]}-{'normalized' if kind[1] else 'raw'}"
)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), *request.param)))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    encoder = load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), "large", False)))
    assert encoder.convolution_is_local
    return encoder


def listeners(tr_s: float = 1.0, onset_s: float = 0.0, count: int = 16) -> InMemory:
    bold = {("sub-001", story): volumes(np.zeros((count, 1)), tr_s, onset_s) for story in SOUNDS}
    bold |= {("sub-002", story): volumes(np.zeros((count - 5, 1)), tr_s, onset_s) for story in SOUNDS}
    return in_memory(dict.fromkeys(SOUNDS, SECONDS), bold, tr_s, SOUNDS)


def hearing(
    encoder: Encoder,
    folder: Path,
    boundary: Boundary,
    tr_s: float = 1.0,
    onset_s: float = 0.0,
    history: int = HISTORY,
    subjects: tuple[str, ...] = ("sub-001",),
    pooling: Pooling = "tr",
    layers: HiddenStates = None,
) -> Hearing:
    shards = listeners(tr_s, onset_s)
    some = windows(shards, subjects, list(SOUNDS), HISTORY)
    return Hearing(encoder, shards, ActivationStore(folder), some, history, boundary, pooling, layers)


def address_of(path: Path) -> str:
    with safe_open(path, "np") as file:
        return file.metadata()["address"]


def lanczos(hidden: np.ndarray, middle_tr: np.ndarray, at_tr: float) -> np.ndarray:
    """Frames' mean, weighed by the textbook's sin(pi x) sin(pi x / 3) / (pi^2 x^2 / 3) within three TRs."""
    x = np.where(middle_tr == at_tr, 1e-9, middle_tr - at_tr)
    weight = np.sin(np.pi * x) * np.sin(np.pi * x / 3) / (np.pi**2 * x**2 / 3) * (np.abs(x) < 3)
    return weight @ hidden / weight.sum()


def transformers_own(
    encoder: Encoder,
    some: Windows,
    tr_s: float = 1.0,
    history: int = HISTORY,
    pooling: Pooling = "tr",
    state: int = 3,
) -> np.ndarray:
    """(N, P) of a hidden state by transformers alone: cut, normalise, forward, average every TR, say."""
    extractor = AutoFeatureExtractor.from_pretrained(encoder.name)
    model = Wav2Vec2Model.from_pretrained(encoder.name).eval()
    length = round(history * tr_s * RATE_HZ)
    pooled = []
    for story, stop in zip(some.story, some.stop, strict=True):
        audio = SOUNDS[str(story)][stop - length : stop]
        inputs = extractor(audio, sampling_rate=RATE_HZ, return_tensors="pt").input_values
        with torch.no_grad():
            told = model(inputs, output_hidden_states=True)
        hidden = [*told.hidden_states[:-1], told.last_hidden_state][state][0].numpy()
        middle_s = (320 * np.arange(len(hidden)) + 200) / RATE_HZ
        trs = [hidden[(middle_s >= n * tr_s) & (middle_s < (n + 1) * tr_s)].mean(0) for n in range(history)]
        ways = {
            "tr": trs,
            "mean": [hidden.mean(0)],
            "last": [trs[-1]],
            "lanczos": [lanczos(hidden, middle_s / tr_s, n + 0.5) for n in range(history)],
        }
        pooled.append(ways[pooling])
    return np.array(pooled).reshape(len(some), -1)


# One output, many ways


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_features_are_transformers_own_whatever_is_stored(
    encoder: Encoder, boundary: Boundary, tmp_path: Path
) -> None:
    heard = hearing(encoder, tmp_path, boundary)
    truth = transformers_own(encoder, heard.windows)
    assert truth.std() > 0.1
    np.testing.assert_allclose(heard.frozen_pooled, truth, atol=1e-4)
    np.testing.assert_allclose(heard.all_pooled(encoder.model), truth, atol=1e-4)
    rows = np.random.default_rng(0).permutation(len(heard.windows))[:5]
    below = heard.below(rows)
    with torch.no_grad():
        np.testing.assert_allclose(heard.pooled(encoder.model, below).numpy(), truth[rows], atol=1e-4)


@pytest.mark.parametrize(("tr_s", "onset_s"), [(1.0, 0.0), (1.0, 0.5), (1.0, 0.013), (0.735, 0.0)], ids=str)
@pytest.mark.parametrize("boundary", [Boundary("conv"), Boundary("layer", 1)], ids=str)
def test_slices_of_a_story_convolved_once_are_the_windows_convolved(
    local: Encoder, boundary: Boundary, tr_s: float, onset_s: float, tmp_path: Path
) -> None:
    heard = hearing(local, tmp_path, boundary, tr_s, onset_s)
    truth = transformers_own(local, heard.windows, tr_s)
    np.testing.assert_allclose(heard.frozen_pooled, truth, atol=1e-4)


def test_a_story_is_convolved_once_for_all_histories_where_that_is_right(
    local: Encoder, tmp_path: Path
) -> None:
    for history in (1, 2, 3):
        assert len(hearing(local, tmp_path, Boundary("conv"), history=history).frozen_pooled)
    stored = [load_file(path)["activations"] for path in tmp_path.rglob("*.safetensors")]
    shapes = [tuple(array.shape) for array in stored]
    frames = local.frames(round(SECONDS * RATE_HZ))
    assert shapes.count((frames, 12)) == len(SOUNDS)
    assert len(shapes) == len(SOUNDS) * (1 + 3)  # and the pooled features of each history


def test_what_one_subject_heard_is_read_by_another(
    local: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hearing(local, tmp_path, Boundary("layer", 1))
    one.frozen_pooled, one.below(np.arange(3))
    monkeypatch.setattr(local.model, "forward", None)
    monkeypatch.setattr("wav2bold.trainables.features.convolved", None)
    monkeypatch.setattr("wav2bold.trainables.features.prefix", None)
    two = hearing(local, tmp_path, Boundary("layer", 1))
    np.testing.assert_array_equal(two.frozen_pooled, one.frozen_pooled)
    np.testing.assert_array_equal(two.below(np.arange(3)), one.below(np.arange(3)))


def test_where_only_the_convolutions_are_frozen_they_are_computed_once(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether as windows or as whole stories; each layer above is computed each time."""
    one = hearing(encoder, tmp_path, Boundary("conv"))
    below = one.below(np.arange(len(one.windows)))
    monkeypatch.setattr("wav2bold.trainables.features.convolved", None)
    two = hearing(encoder, tmp_path, Boundary("conv"))
    assert torch.equal(two.below(np.arange(len(two.windows))), below)
    np.testing.assert_allclose(
        two.all_pooled(encoder.model), transformers_own(encoder, two.windows), atol=1e-4
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("boundary", BOUNDARIES[1:-1], ids=str)
def test_half_precision_rounds_what_is_stored_and_computes_with_float32(
    encoder: Encoder, boundary: Boundary, dtype: StoredType, tmp_path: Path
) -> None:
    exact, half = (
        dataclasses.replace(
            hearing(encoder, tmp_path / "store", boundary),
            store=ActivationStore(tmp_path / "store", dtype=kind),
        )
        for kind in ("float32", dtype)
    )
    rows = np.arange(len(exact.windows))
    rounding = torch.finfo(getattr(torch, dtype)).eps
    below = half.below(rows)
    assert below.dtype == torch.float32
    assert torch.equal(below, below.to(getattr(torch, dtype)).float())
    scale = exact.below(rows).abs().max()
    assert 0 < (below - exact.below(rows)).abs().max() < 4 * rounding * scale
    # pooled features belong to what stage 2 will read, and are not rounded themselves
    with torch.no_grad():
        pooled = half.pooled(encoder.model, below).numpy()
    np.testing.assert_allclose(half.frozen_pooled, pooled, atol=1e-5)
    assert half.frozen_pooled.dtype == np.float32
    assert not np.array_equal(half.frozen_pooled, exact.frozen_pooled)


def test_subjects_with_other_volumes_never_read_each_others_rows(local: Encoder, tmp_path: Path) -> None:
    for subjects in (("sub-001",), ("sub-002",), ("sub-002", "sub-001")):
        heard = hearing(local, tmp_path, Boundary("layer", 2), subjects=subjects)
        truth = transformers_own(local, heard.windows)
        np.testing.assert_allclose(heard.frozen_pooled, truth, atol=1e-4)


def test_another_encoder_in_the_same_store_is_not_mistaken(local: Encoder, tmp_path: Path) -> None:
    other = load_encoder(str(save_small_wav2vec2(tmp_path / "other", "large", False, seed=1)))
    for encoder in (local, other):
        heard = hearing(encoder, tmp_path / "store", Boundary("layer", 1))
        np.testing.assert_allclose(heard.frozen_pooled, transformers_own(encoder, heard.windows), atol=1e-4)


def test_a_shorter_history_is_the_end_of_the_same_windows(encoder: Encoder, tmp_path: Path) -> None:
    heard = hearing(encoder, tmp_path, Boundary("conv"), history=2)
    np.testing.assert_allclose(
        heard.frozen_pooled, transformers_own(encoder, heard.windows, history=2), atol=1e-4
    )


@pytest.mark.parametrize("history", [1, HISTORY])
def test_what_is_pooled_in_one_way_is_never_read_for_another(
    local: Encoder, tmp_path: Path, history: int
) -> None:
    """Ways of one width, and at a history of one TR all four, whose stored arrays are alike in shape."""
    for _ in ("computed", "found"):
        for way in POOLINGS:
            heard = hearing(local, tmp_path, Boundary("layer", 1), history=history, pooling=way)
            truth = transformers_own(local, heard.windows, history=history, pooling=way)
            assert truth.shape == (len(heard.windows), 16 * (history if way in {"tr", "lanczos"} else 1))
            np.testing.assert_allclose(heard.frozen_pooled, truth, atol=1e-4)
            np.testing.assert_allclose(heard.all_pooled(local.model), truth, atol=1e-4)
    stored = [path for path in tmp_path.rglob("*.safetensors") if "pooled" in address_of(path)]
    assert len(stored) == len(SOUNDS) * len(POOLINGS)


@pytest.mark.parametrize("way", POOLINGS)
def test_nothing_after_a_volume_is_heard_however_frames_are_pooled(
    encoder: Encoder, tmp_path: Path, way: Pooling
) -> None:
    heard = hearing(encoder, tmp_path / "one", Boundary("conv"), pooling=way)
    row = len(heard.windows) // 4
    story, stop = str(heard.windows.story[row]), int(heard.windows.stop[row])
    changed = SOUNDS[story].copy()
    changed[stop:] = speech(SECONDS, 9)[stop:]
    other = in_memory(dict.fromkeys(SOUNDS, SECONDS), heard.shards.told, 1.0, SOUNDS | {story: changed})
    after = dataclasses.replace(heard, shards=other, store=ActivationStore(tmp_path / "two"))
    np.testing.assert_allclose(after.frozen_pooled[row], heard.frozen_pooled[row], atol=1e-5)
    assert not np.allclose(after.frozen_pooled[row + 1], heard.frozen_pooled[row + 1], atol=1e-3)


# Other hidden states than the last


def side_by_side(encoder: Encoder, some: Windows, states: tuple[int, ...]) -> np.ndarray:
    """(N, K * n * D)."""
    return np.concatenate([transformers_own(encoder, some, state=state) for state in states], axis=1)


@pytest.fixture(scope="module")
def each(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """What a head would read of each hidden state."""
    some = hearing(encoder, tmp_path_factory.mktemp("store"), Boundary("audio")).windows
    return [transformers_own(encoder, some, state=state) for state in range(4)]


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_hidden_states_are_read_side_by_side_whatever_is_stored(
    encoder: Encoder, each: list[np.ndarray], boundary: Boundary, tmp_path: Path
) -> None:
    for layers in ((0,), (2,), (3,), (0, 2), (1, 2, 3)):
        if boundary.layer > layers[-1]:
            continue  # nothing that high is run
        heard = hearing(encoder, tmp_path, boundary, layers=layers)
        truth = np.concatenate([each[state] for state in layers], axis=1)
        np.testing.assert_allclose(heard.frozen_pooled, truth, atol=1e-4)
        np.testing.assert_allclose(heard.all_pooled(encoder.model), truth, atol=1e-4)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=str)
def test_a_weighted_sum_is_that_of_all_hidden_states(
    encoder: Encoder, each: list[np.ndarray], boundary: Boundary, tmp_path: Path
) -> None:
    heard = hearing(encoder, tmp_path, boundary, layers="weighted")
    np.testing.assert_allclose(heard.frozen_pooled, sum(each) / 4, atol=1e-4)
    weights = np.array([0.1, 0.2, 0.4, 0.3], np.float32)
    truth = 0.1 * each[0] + 0.2 * each[1] + 0.4 * each[2] + 0.3 * each[3]
    np.testing.assert_allclose(heard.frozen_features(weights), truth, atol=1e-4)
    np.testing.assert_allclose(heard.all_pooled(encoder.model, weights), truth, atol=1e-4)


def test_features_of_some_hidden_states_are_never_read_for_others(local: Encoder, tmp_path: Path) -> None:
    """Of one width each."""
    for _ in ("computed", "found"):
        for layers in ((1,), (2,), None, (0, 2), (1, 3)):
            heard = hearing(local, tmp_path, Boundary("conv"), layers=layers)
            truth = side_by_side(local, heard.windows, layers or (3,))
            np.testing.assert_allclose(heard.frozen_pooled, truth, atol=1e-4)


def test_what_lies_below_the_boundary_is_computed_once_and_what_lies_above_all_that_is_read_never(
    local: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    whole = through_layers

    def watched(
        model: SpeechModel, hidden: torch.Tensor, first: int, last: int, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        ran.extend(range(first, last))
        return whole(model, hidden, first, last, mask)

    for place in ("encoder", "families"):
        monkeypatch.setattr(f"wav2bold.trainables.{place}.through_layers", watched)
    layers = (0, 1, 2)
    one = hearing(local, tmp_path, Boundary("layer", 1), layers=layers)
    assert len(one.frozen_pooled)
    assert set(ran) == {0, 1}
    monkeypatch.setattr("wav2bold.trainables.features.convolved", None)
    monkeypatch.setattr("wav2bold.trainables.features.prefix", None)
    ran.clear()
    two = hearing(local, tmp_path, Boundary("layer", 1), layers=layers)
    truth = side_by_side(local, two.windows, layers)
    np.testing.assert_allclose(two.frozen_pooled, truth, atol=1e-4)
    assert ran == []
    np.testing.assert_allclose(two.all_pooled(local.model), truth, atol=1e-4)
    assert set(ran) == {1}
