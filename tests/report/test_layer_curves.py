"""Hidden states that refinement left alone are scored once, and curves are what each encoder gives alone."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hearers import CONFIGURATION, STORIES, World, world

from wav2bold.config import Configuration, Study
from wav2bold.evaluation import scoring
from wav2bold.evaluation.audience import Audience
from wav2bold.evaluation.evaluated import LayerScore
from wav2bold.evaluation.layers import layer_scores
from wav2bold.progress import silent
from wav2bold.report import layer_curves as curves
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import load_encoder, save_encoder
from wav2bold.tuning import apart
from wav2bold.tuning.workshop import longest_history

LAYERS = 2
WHO = "sub-001"


class Here:
    """In place of Ray: a task runs where it is asked for, at once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def options(self, **resources: object) -> "Here":
        return self

    def remote(self, *arguments: object) -> Callable[[], Any]:
        result = self.function(*arguments)
        return lambda: result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("hearers"))


@pytest.fixture
def decomposed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """What ridges were fitted on, in their order; Ray is left out."""
    here = SimpleNamespace(remote=Here, get=lambda told: told(), wait=lambda told: (told, []))
    monkeypatch.setattr(apart, "ray", here)
    seen: list[tuple[int, ...]] = []
    decompose = scoring.decompose

    def counted(train: Any, *rest: Any, **options: Any) -> Any:
        seen.append(train.shape)
        return decompose(train, *rest, **options)

    monkeypatch.setattr(scoring, "decompose", counted)
    return seen


def refined(made: World, folder: Path, came_from: str | None = None, **options: object) -> Path:
    """A folder as `refine` leaves it, of an encoder whose trained layers were moved."""
    encoder = load_encoder(str(made.encoder))
    configuration = Configuration.model_validate(CONFIGURATION.model_dump() | options)
    layers = {layer for span in configuration.unfrozen.values() for layer in range(span[0], span[1] + 1)}
    digest = encoder.digest
    with torch.no_grad():
        for name, parameter in encoder.model.named_parameters():
            if any(name.startswith(f"encoder.layers.{layer}.attention.q_proj.weight") for layer in layers):
                parameter += 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    save_encoder(folder, encoder.model, encoder.extractor)
    configuration.save(folder / "config.yaml", "made for a test")
    (folder / "refined.json").write_text(json.dumps({"origin": {"encoder": came_from or digest}}))
    return folder


def of(scores: tuple[LayerScore, ...], encoder: str, layer: int) -> list[float]:
    return [one.score.value for one in scores if (one.encoder, one.layer) == (encoder, layer)]


def alone(made: World, folder: Path) -> tuple[LayerScore, ...]:
    """Every hidden state of a refined encoder, none of them taken from elsewhere."""
    study = Study.load(made.study)
    audience = Audience(made.shards, STORIES, (WHO,), longest_history(study))
    store = ActivationStore(made.folder / "activations")
    encoder = load_encoder(str(folder))
    return tuple(layer_scores(encoder, audience, store, CONFIGURATION, "refined", intervals=True))


def test_states_below_the_lowest_trained_layer_are_scored_once(
    made: World, decomposed: list[tuple[int, ...]], tmp_path: Path
) -> None:
    folder = refined(made, tmp_path / WHO, unfrozen={"attention": (1, 1)})
    found = curves.layer_curves(Study.load(made.study), STORIES, {WHO: folder}, silent)
    assert len(decomposed) == (LAYERS + 1) + 1  # all of the frozen encoder, the last of the refined one
    for layer in (0, 1):
        assert of(found, "refined", layer) == of(found, "frozen", layer)
    assert of(found, "refined", 2) != of(found, "frozen", 2)
    told = [one for one in found if one.encoder == "refined"]
    assert tuple(told) == alone(made, folder)  # bit by bit, intervals too, in the same order


def test_all_states_above_the_input_are_scored_where_the_first_layer_was_trained(
    made: World, decomposed: list[tuple[int, ...]], tmp_path: Path
) -> None:
    folder = refined(made, tmp_path / WHO, unfrozen={"attention": (0, 1)})
    found = curves.layer_curves(Study.load(made.study), STORIES, {WHO: folder}, silent)
    assert len(decomposed) == (LAYERS + 1) + LAYERS
    assert of(found, "refined", 0) == of(found, "frozen", 0)
    assert of(found, "refined", 1) != of(found, "frozen", 1)


def test_nothing_is_scored_twice_where_nothing_was_trained(
    made: World, decomposed: list[tuple[int, ...]], tmp_path: Path
) -> None:
    folder = refined(made, tmp_path / WHO, unfrozen={})
    found = curves.layer_curves(Study.load(made.study), STORIES, {WHO: folder}, silent)
    assert len(decomposed) == LAYERS + 1
    for layer in range(LAYERS + 1):
        assert of(found, "refined", layer) == of(found, "frozen", layer)


def test_an_encoder_that_came_from_another_one_shares_nothing(
    made: World, decomposed: list[tuple[int, ...]], tmp_path: Path
) -> None:
    folder = refined(made, tmp_path / WHO, "0" * 32, unfrozen={"attention": (1, 1)})
    curves.layer_curves(Study.load(made.study), STORIES, {WHO: folder}, silent)
    assert len(decomposed) == 2 * (LAYERS + 1)
