"""Scores of any encoder: high where the truth is, at zero where a control has taken it away."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hearers import CEILING, CONFIGURATION, HISTORY, STORIES, TARGETS, World, world
from scipy import stats
from sklearn.linear_model import RidgeCV
from typer.testing import CliRunner

import wav2bold
from wav2bold.cli import app
from wav2bold.datasets import writing
from wav2bold.datasets.shards import Shards, targets_path
from wav2bold.datasets.windows import windows
from wav2bold.errors import DataError, StudyError
from wav2bold.evaluation.audience import Audience, places_in, rows_of_all
from wav2bold.evaluation.evaluated import Scored
from wav2bold.evaluation.layers import layer_scores
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Boundary, load_encoder
from wav2bold.trainables.features import Hearing
from wav2bold.tuning.score import score
from wav2bold.tuning.workshop import longest_history

PEOPLE = ("sub-001", "sub-002", "sub-003", "sub-null")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("hearers"))


def by_subject(scores: list[Scored]) -> dict[str, Scored]:
    return {one.subject: one for one in scores}


@pytest.fixture(scope="module")
def plain(made: World) -> dict[str, Scored]:
    return by_subject(wav2bold.score(made.study))


def test_the_brains_own_encoder_nears_the_ceiling_and_noise_is_told_as_such(plain: dict[str, Scored]) -> None:
    assert set(plain) == set(PEOPLE)
    for one in plain.values():
        hears = one.subject != "sub-null"
        assert (one.score.value > 0.75 * CEILING) == hears
        assert (one.score.low > 0) == hears
        assert (one.predicted == TARGETS) == hears
        assert one.of_ceiling == pytest.approx(one.score.value / CEILING)
        assert one.targets == TARGETS
        assert (one.layer, one.region) == (None, None)
    assert plain["sub-null"].predicted <= 1
    assert plain["sub-null"].r2 < 0.02 < 0.3 < plain["sub-001"].r2 < CEILING**2


def test_a_score_is_scipys_r_of_scikit_learns_ridge(made: World, plain: dict[str, Scored]) -> None:
    encoder, store = load_encoder(str(made.encoder)), ActivationStore(made.folder / "activations")
    x, y = [], []
    for stories in (STORIES.train, STORIES.test):
        some = windows(made.shards, ["sub-001"], stories, HISTORY)
        top = Boundary("layer", encoder.layers)
        x.append(Hearing(encoder, made.shards, store, some, HISTORY, top).frozen_pooled)
        y.append(some.y)
    mean, sd = x[0].mean(0), x[0].std(0)
    ridge = RidgeCV(np.logspace(0, 6, 13), alpha_per_target=True).fit((x[0] - mean) / sd, y[0])
    predicted = ridge.predict((x[1] - mean) / sd)
    r = [stats.pearsonr(y[1][:, v], predicted[:, v]).statistic for v in range(TARGETS)]
    # scikit-learn leaves out volumes, we stories: penalties differ a little
    assert plain["sub-001"].score.value == pytest.approx(np.mean(r), abs=0.01)


def test_company_hardly_changes_a_score(made: World, plain: dict[str, Scored]) -> None:
    alone = by_subject(wav2bold.score(made.study, subjects=["sub-002"]))
    # features are standardised over everybody's rows, and sub-002 lacks a story
    assert alone["sub-002"].score.value == pytest.approx(plain["sub-002"].score.value, abs=2e-3)


def test_modelled_noise_scores_as_well(made: World, plain: dict[str, Scored]) -> None:
    study = wav2bold.Study.load(made.study)
    modelled = study.model_copy(update={"configuration": CONFIGURATION.model_copy(update={"noise": "ar"})})
    found = by_subject(score(modelled))
    for subject in PEOPLE[:3]:
        assert found[subject].score.value == pytest.approx(plain[subject].score.value, abs=0.03)


def test_shifted_bold_leaves_nothing(made: World) -> None:
    for one in wav2bold.score(made.study, shift_bold=True):
        assert abs(one.score.value) < 0.12
        assert one.score.low < 0.05
        assert one.predicted <= 1


def test_random_weights_lose_what_training_gave_and_say_so(made: World, plain: dict[str, Scored]) -> None:
    first, again = (wav2bold.score(made.study, random_weights=True) for _ in range(2))
    assert first == again
    for one in first[:3]:
        assert one.score.value < plain[one.subject].score.value - 0.02
        assert one.encoder.endswith("random weights")


def test_another_subjects_bold_is_compared_place_by_place(made: World, plain: dict[str, Scored]) -> None:
    alike = by_subject(wav2bold.score(made.study, bold_of="sub-002"))
    assert alike["sub-001"].score.value == pytest.approx(plain["sub-001"].score.value, abs=0.05)
    assert abs(alike["sub-003"].score.value) < 0.3
    assert alike["sub-002"].score.value == pytest.approx(plain["sub-002"].score.value, abs=1e-4)


def test_the_layer_that_the_brain_hears_scores_best_and_each_as_if_it_were_alone(
    made: World, plain: dict[str, Scored]
) -> None:
    layers = wav2bold.score(made.study, subjects=["sub-001", "sub-002"], by_layer=True)
    assert [(one.layer, one.subject) for one in layers] == [
        (layer, subject) for layer in range(3) for subject in ("sub-001", "sub-002")
    ]
    own = [one for one in layers if one.subject == "sub-001"]
    assert max(own, key=lambda one: one.score.value).layer == 2
    assert own[2].score.value == pytest.approx(plain["sub-001"].score.value, abs=1e-4)
    study = wav2bold.Study.load(made.study)
    alone = CONFIGURATION.model_copy(update={"layers": (1,)})
    first = by_subject(score(study.model_copy(update={"configuration": alone}), subjects=["sub-001"]))
    assert own[1].score.value == pytest.approx(first["sub-001"].score.value, abs=1e-4)


def test_curves_over_layers_are_the_same_scores_and_highest_where_the_brain_hears(made: World) -> None:
    study = wav2bold.Study.load(made.study)
    encoder, store = load_encoder(str(made.encoder)), ActivationStore(made.folder / "activations")
    audience = Audience(made.shards, STORIES, ("sub-001", "sub-null"), longest_history(study))
    found = {
        certain: list(layer_scores(encoder, audience, store, CONFIGURATION, "frozen", intervals=certain))
        for certain in (False, True)
    }
    expected = wav2bold.score(made.study, subjects=audience.subjects, by_layer=True, by_region=True)
    assert [one.score for one in found[True]] == [one.score for one in expected]
    assert all(one.encoder == "frozen" for one in found[True])
    for one, other in zip(found[False], expected, strict=True):
        assert (one.subject, one.layer, one.region) == (other.subject, other.layer, other.region)
        assert one.score.value == pytest.approx(other.score.value, abs=1e-6)
        assert math.isnan(one.score.low)
    hearing = [one for one in found[False] if (one.subject, one.region) == ("sub-001", None)]
    assert max(hearing, key=lambda one: one.score.value).layer == encoder.layers
    null = [one for one in found[True] if (one.subject, one.region) == ("sub-null", None)]
    assert all(one.score.low < 0.03 and abs(one.score.value) < 0.15 for one in null)


def test_regions_are_scored_by_name(made: World) -> None:
    whole, v1, a1 = wav2bold.score(made.study, subjects=["sub-001"], by_region=True)
    assert [whole.region, v1.region, a1.region] == [None, "V1", "A1"]
    assert (v1.targets, a1.targets) == (4, TARGETS - 4)
    mean = (4 * v1.score.value + 8 * a1.score.value) / TARGETS
    assert whole.score.value == pytest.approx(mean)


def test_regions_without_names_are_refused(made: World, tmp_path: Path) -> None:
    shards = Shards(tmp_path / "bare", made.shards.card)
    shutil.copytree(made.shards.root, shards.root)
    table = pd.DataFrame({"target": np.arange(TARGETS), "ceiling": math.nan})
    writing.write_targets(targets_path(shards.root, "sub-001"), table, {})
    with pytest.raises(DataError, match="in no named region; prepare them"):
        wav2bold.score(made.study, shards=shards.root, subjects=["sub-001"], by_region=True)
    with pytest.raises(DataError, match="sub-002 and sub-001 have no target at the same place"):
        wav2bold.score(made.study, shards=shards.root, subjects=["sub-002"], bold_of="sub-001")
    (one,) = wav2bold.score(made.study, shards=shards.root, subjects=["sub-001"])
    assert math.isnan(one.of_ceiling)


def test_several_encoders_are_scored_one_after_the_other(made: World, plain: dict[str, Scored]) -> None:
    both = wav2bold.score(made.study, [made.encoder, made.encoder], subjects=["sub-001"])
    assert [one.score for one in both] == [plain["sub-001"].score] * 2


def test_other_shards_are_scored_with_the_split_beside_them(made: World, tmp_path: Path) -> None:
    elsewhere = wav2bold.Study.load(made.study).model_copy(update={"shards": tmp_path / "none"})
    found = score(elsewhere, shards=made.shards.root, subjects=["sub-001"])
    assert found[0].volumes == by_subject(wav2bold.score(made.study))["sub-001"].volumes


def test_whoever_is_unknown_or_lies_elsewhere_is_named(made: World) -> None:
    with pytest.raises(DataError, match="no subject sub-009"):
        wav2bold.score(made.study, subjects=["sub-009"])
    with pytest.raises(DataError, match="no subject sub-009"):
        wav2bold.score(made.study, bold_of="sub-009")


def test_every_row_is_found_where_it_lies(made: World) -> None:
    some = [windows(made.shards, [subject], STORIES.train, HISTORY) for subject in ("sub-002", "sub-001")]
    everyone = rows_of_all(some)
    for one in some:
        places = places_in(everyone, one)
        np.testing.assert_array_equal(everyone.stop[places], one.stop)
        np.testing.assert_array_equal(everyone.story[places], one.story)
    assert len(everyone) == len(some[1])


def test_every_targets_scores_are_written(made: World, tmp_path: Path, plain: dict[str, Scored]) -> None:
    out = tmp_path / "deep" / "targets.parquet"
    wav2bold.score(made.study, subjects=["sub-001", "sub-null"], out=out)
    table = pd.read_parquet(out)
    assert list(table.groupby("subject").size()) == [TARGETS, TARGETS]
    for subject, rows in table.groupby("subject"):
        assert rows["r"].mean() == pytest.approx(plain[str(subject)].score.value, abs=1e-6)
        assert rows["r2"].mean() == pytest.approx(plain[str(subject)].r2, abs=1e-6)
        assert rows["predicted"].sum() == plain[str(subject)].predicted
        np.testing.assert_allclose(rows["of_ceiling"], rows["r"] / CEILING, rtol=1e-5)
        np.testing.assert_array_equal(rows["target"], np.arange(TARGETS))
    assert table["layer"].isna().all()
    assert table.loc[table["subject"] == "sub-001", "p"].max() < 0.01


def test_the_command_prints_the_same_as_a_table_and_as_json(made: World, plain: dict[str, Scored]) -> None:
    done = CliRunner().invoke(app, ["score", str(made.study), "--subjects", "sub-001", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told[0]["score"]["value"] == pytest.approx(plain["sub-001"].score.value)
    assert told[0]["layer"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for value in told[0].values())
    assert "per_target" not in told[0]
    table = CliRunner().invoke(app, ["score", str(made.study), "--subjects", "sub-001", "--shift-bold"])
    assert "BOLD moved by half of each story" in table.stdout
    assert "sub-001" in table.stdout


@pytest.mark.parametrize("other", [["--by-layer"], ["--picture", "scores.svg"]])
def test_low_level_features_have_a_table_of_their_own(made: World, other: list[str]) -> None:
    done = CliRunner().invoke(app, ["score", str(made.study), "--low-level", *other])
    assert isinstance(done.exception, StudyError)
    assert "leave out" in str(done.exception)


def test_every_layer_is_scored_in_every_region(made: World, tmp_path: Path) -> None:
    picture = tmp_path / "layers.svg"
    found = wav2bold.score(made.study, subjects=["sub-001"], by_layer=True, by_region=True, picture=picture)
    assert [(one.layer, one.region) for one in found] == [
        (layer, region) for layer in range(3) for region in (None, "V1", "A1")
    ]
    alone = wav2bold.score(made.study, subjects=["sub-001"], by_layer=True)
    for one, other in zip([one for one in found if one.region is None], alone, strict=True):
        assert one.score.low == pytest.approx(other.score.low, abs=1e-9)
        assert one.score.value == pytest.approx(other.score.value, abs=1e-9)
    for name in ("all targets", "V1", "A1"):
        assert f">{name}</text>" in picture.read_text()
