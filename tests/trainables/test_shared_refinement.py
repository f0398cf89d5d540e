"""People refined together with one head: what it predicts is scored, saved and evaluated person by person."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from listeners import save_small_wav2vec2
from refining import HISTORY, configuration, material, run

from wav2bold.datasets.splits import Stories
from wav2bold.datasets.windows import windows
from wav2bold.errors import DataError
from wav2bold.evaluation.evaluate import evaluate
from wav2bold.trainables.checkpoint import load_refined, save_refined
from wav2bold.trainables.encoder import Boundary, Encoder, load_encoder
from wav2bold.trainables.features import Hearing
from wav2bold.trainables.people import targets_of
from wav2bold.trainables.refine import Material
from wav2bold.trainables.scores import pearson
from wav2bold.trainables.unfreezing import unfreeze

STORIES = Stories(("ferry", "bakery"), ("library",), ("library",))
OPTIONS = configuration({"attention": (1, 2)}, head="shared", head_l2=100.0, noise="ar")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(save_small_wav2vec2(tmp_path_factory.mktemp("encoder"), "large", False)))


@pytest.mark.parametrize(
    "choice", [{}, {"head_rank": 2}, {"noise": "white", "loss": "corr"}, {"head": "linear"}], ids=str
)
def test_everybody_is_scored_and_evaluated_with_the_shared_predictions_or_their_own(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: dict[str, Any]
) -> None:
    some = material(encoder, tmp_path / "store", widths=(3, 3))
    rising = iter(range(9))
    monkeypatch.setattr("wav2bold.trainables.refine.brain_score", lambda scores: next(rising) // 2)
    options = OPTIONS.model_copy(update=choice)
    reports, refined = run(some, options)
    assert refined.epoch == 2
    assert refined.head.weight.shape[1] == (6 if options.head == "linear" else 3)
    hearing = Hearing(
        encoder, some.shards, some.store, some.validation, HISTORY, unfreeze(encoder, options).boundary
    )
    predicted = refined.head.predict(hearing.all_pooled(refined.model))
    parts = np.split(predicted, 2, axis=1) if options.head == "linear" else [predicted] * 2
    own = {
        person: pearson(some.validation.y[:, some.validation.subject == person], part)
        for person, part in zip(("sub-001", "sub-002"), parts, strict=True)
    }
    np.testing.assert_allclose(reports[2].scores, np.concatenate(list(own.values())), atol=1e-5)
    folder = tmp_path / "refined"
    save_refined(folder, refined, encoder, targets_of(some.shards, some.train.subject), reports, {})
    table = pq.read_table(folder / "scores.parquet").to_pydict()
    assert table["subject"] == ["sub-001"] * 3 + ["sub-002"] * 3
    assert table["target"] == [0, 1, 2] * 2
    alpha = refined.head.alpha if options.head == "linear" else np.tile(refined.head.alpha, 2)
    np.testing.assert_array_equal(table["alpha"], alpha)
    np.testing.assert_array_equal(load_refined(folder).head.weight, refined.head.weight)
    for person, scores in own.items():
        found = evaluate(encoder, some.shards, some.store, STORIES, person, folder, HISTORY)
        np.testing.assert_allclose(found.head, scores, atol=1e-4)


def of_one(some: Material) -> Material:
    train, validation = (
        windows(some.shards, ["sub-001"], stories, HISTORY) for stories in (STORIES.train, STORIES.validation)
    )
    return replace(some, train=train, validation=validation)


@pytest.mark.parametrize(
    ("head", "widths", "said"),
    [
        ("shared", (3, 3), None),
        (
            "shared",
            (3, 2),
            "head: shared needs the same targets in all, and sub-001 and sub-002 differ:",
        ),
        ("linear", (3, 3), "sub-002: the head was refined for sub-001; evaluate those, or refine for this"),
    ],
)
def test_a_shared_head_is_evaluated_on_whom_it_was_not_fitted_to_and_no_other_is(
    encoder: Encoder, tmp_path: Path, head: str, widths: tuple[int, int], said: str | None
) -> None:
    some = of_one(material(encoder, tmp_path / "store", widths=widths))
    reports, refined = run(some, OPTIONS.model_copy(update={"head": head, "epochs": 0}))
    save_refined(
        tmp_path / "refined", refined, encoder, targets_of(some.shards, some.train.subject), reports, {}
    )

    def scores() -> np.ndarray:
        return evaluate(
            encoder, some.shards, some.store, STORIES, "sub-002", tmp_path / "refined", HISTORY
        ).head

    if said is not None:
        with pytest.raises(DataError) as raised:
            scores()
        assert str(raised.value).startswith(said)
        return
    hearing = Hearing(encoder, some.shards, some.store, some.validation, HISTORY, Boundary("layer", 3))
    theirs = windows(some.shards, ["sub-002"], STORIES.test, HISTORY)
    np.testing.assert_array_equal(theirs.stop, some.validation.stop)
    np.testing.assert_allclose(
        scores(), pearson(theirs.y, refined.head.predict(hearing.frozen_pooled)), atol=1e-5
    )


def test_a_head_of_one_is_refined_as_a_head_of_its_own(encoder: Encoder, tmp_path: Path) -> None:
    alone = of_one(material(encoder, tmp_path))
    white = OPTIONS.model_copy(update={"noise": "white"})
    shared, linear = (run(alone, white.model_copy(update={"head": head}))[0] for head in ("shared", "linear"))
    for one, other in zip(shared, linear, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        assert one.loss == pytest.approx(other.loss, rel=1e-4, nan_ok=True)


# Who can't share one


def told(some: Material, space: str = "fsaverage5", **places: dict[str, Any]) -> Material:
    """The same people, whose tables of targets say this."""
    tables = {f"sub-{name[1:]}": table for name, table in places.items()}
    return replace(
        some,
        shards=replace(some.shards, card=replace(some.shards.card, space=space), targets_told=tables),
    )


VERTICES = {"hemisphere": ["L", "L", "R"], "vertex": [4, 9, 1]}
MEANS = {"label": [1, 2, 5], "name": ["A1", "A2", None], "members": [8, 9, 7], "x_mm": [-40.0, -42.0, 40.0]}
CURE = "set head: linear, or prepare them in a common space with one mask or parcellation"


@pytest.mark.parametrize(
    ("widths", "space", "other", "said"),
    [
        ((3, 2), "fsaverage5", {}, "they have 3 and 2 targets"),
        (
            (3, 3),
            "fsaverage5",
            VERTICES | {"vertex": [4, 9, 2]},
            "vertex of target 2 is 1 and 2",
        ),
        ((3, 3), "fsaverage5", {"column": [0, 1, 2]}, "they are told by hemisphere, vertex and by column"),
        ((3, 3), "fsnative_den-164k", VERTICES, "their space is fsnative_den-164k, each person's own"),
    ],
    ids=["number", "places", "kinds", "space"],
)
def test_people_whose_targets_are_other_places_are_named_before_any_work(
    encoder: Encoder,
    tmp_path: Path,
    widths: tuple[int, int],
    space: str,
    other: dict[str, Any],
    said: str,
) -> None:
    some = told(material(encoder, tmp_path / "store", widths=widths), space, p001=VERTICES, p002=other)
    with pytest.raises(DataError) as raised:
        run(some, OPTIONS)
    message = f"head: shared needs the same targets in all, and sub-001 and sub-002 differ: {said}; {CURE}"
    assert str(raised.value) == message
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("space", "one", "other"),
    [
        ("native", MEANS, MEANS | {"members": [9, 9, 2], "x_mm": [-41.0, -42.0, 37.0]}),
        ("fsaverage5", VERTICES, VERTICES),
        ("MNI152NLin6Asym", {"i": [1, 2, 3], "x_mm": [2.0, 4, 6]}, {"i": [1, 2, 3], "x_mm": [2.00001, 4, 6]}),
    ],
    ids=["regions", "vertices", "voxels"],
)
def test_people_whose_targets_are_the_same_places_share_a_head(
    encoder: Encoder, tmp_path: Path, space: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    some = told(material(encoder, tmp_path, widths=(3, 3)), space, p001=one, p002=other)
    _, refined = run(some, OPTIONS.model_copy(update={"epochs": 0}))
    assert refined.head.weight.shape[1] == 3
