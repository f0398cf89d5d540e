"""Tasks of whole utterances, on small trees of real prompts: above chance, and the same after a kill."""

from pathlib import Path

import corpora
import numpy as np
import pytest

from wav2bold.errors import DataError, StudyError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.superb import fitting, scoring
from wav2bold.trainables.superb.protocol import Options, Score, score_from
from wav2bold.trainables.superb.scoring import hearing, score_tasks
from wav2bold.trainables.superb.tasks import TASKS, check_needs, check_tasks

SHORT = Options(updates=300, rates=(1e-2, 1e-3), crops=2)
LEAST = {"ks": (1 / 12, 0.3), "ic": (1 / 12, 0.4), "sid": (1 / 3, 0.45), "er": (1 / 4, 0.5)}
"""Chance, and what encoders with random weights must reach in the mean over SEEDS.

They reach 0.49, 0.65, 0.56 and 0.78.
"""
SEEDS = (0, 1, 2)


def score_task(
    encoder: Encoder, name: str, data: Path, folder: Path, store: ActivationStore, options: Options
) -> tuple[Score, bool]:
    return score_tasks(encoder, [name], data, folder, store, options)[name]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    corpora.speech_commands(root)
    corpora.fluent_speech_commands(root, 8)
    corpora.voxceleb1(root)
    corpora.iemocap(root)
    return root


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[Encoder]:
    folder = tmp_path_factory.mktemp("encoders")
    return [load_encoder(str(corpora.save_hearer(folder / str(seed), seed=seed))) for seed in SEEDS]


@pytest.fixture(scope="module")
def encoder(encoders: list[Encoder]) -> Encoder:
    return encoders[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return ActivationStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def scores(
    data: Path, encoder: Encoder, store: ActivationStore, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Score]:
    out = tmp_path_factory.mktemp("out")
    return {name: score_task(encoder, name, data, out, store, SHORT)[0] for name in LEAST}


@pytest.mark.parametrize("name", LEAST)
def test_heads_on_small_encoders_are_far_above_chance(
    scores: dict[str, Score],
    encoders: list[Encoder],
    data: Path,
    store: ActivationStore,
    tmp_path: Path,
    name: str,
) -> None:
    chance, least = LEAST[name]
    others = [
        score_task(one, name, data, tmp_path / str(number), store, SHORT)[0]
        for number, one in enumerate(encoders[1:])
    ]
    found = [one.value for one in (scores[name], *others)]
    assert np.mean(found) > least > 1.3 * chance
    assert set(scores[name].rates) <= set(SHORT.rates)


def test_emotions_are_scored_as_the_mean_of_five_folds(scores: dict[str, Score]) -> None:
    score = scores["er"]
    folds = [score.parts[score.fold == fold].mean() for fold in range(5)]
    assert score.value == pytest.approx(np.mean(folds))
    assert len(score.rates) == len(score.dev) == 5
    assert all(set(score.unit[score.fold == fold].astype("U5")) == {f"Ses0{fold + 1}"} for fold in range(5))


@pytest.mark.parametrize("name", LEAST)
def test_weights_of_hidden_states_and_what_they_add_sum_to_one(scores: dict[str, Score], name: str) -> None:
    assert scores[name].weights.shape == (3,)
    assert scores[name].weights.sum() == pytest.approx(1)
    assert scores[name].shares.sum() == pytest.approx(1)
    assert not np.allclose(scores[name].weights, 1 / 3, atol=1e-3), "they are trained"


def test_a_score_survives_its_file(scores: dict[str, Score]) -> None:
    again = score_from(scores["er"].to_json())
    assert again.to_json() == scores["er"].to_json()
    assert again.value == scores["er"].value


def test_what_is_scored_is_kept_and_anything_that_changes_it_is_not(
    data: Path, encoder: Encoder, store: ActivationStore, tmp_path: Path
) -> None:
    few = Options(updates=20, rates=(1e-2,))
    first, kept = score_task(encoder, "ks", data, tmp_path, store, few)
    assert not kept
    again, kept = score_task(encoder, "ks", data, tmp_path, store, few)
    assert kept
    assert again.to_json() == first.to_json()
    for options in (Options(20, (1e-2,), seed=1), Options(20, (1e-3,)), Options(21, (1e-2,))):
        assert not score_task(encoder, "ks", data, tmp_path, store, options)[1]
    louder = hearing(encoder, normalize_wav=not encoder.extractor.do_normalize)
    assert louder.digest != encoder.digest
    assert not score_task(louder, "ks", data, tmp_path, store, few)[1]


def test_training_that_was_killed_goes_on_to_the_same_numbers(
    data: Path, encoder: Encoder, store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(updates=60, rates=(1e-1, 1e-2, 1e-3))
    whole, _ = score_task(encoder, "ks", data, tmp_path / "whole", store, options)
    kept = fitting._keep
    steps: list[int] = []

    def killed(path: Path, identity: object, adam: fitting.StackedAdam, best: object) -> None:
        kept(path, identity, adam, best)
        steps.append(adam.steps)
        if len(steps) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        score_task(encoder, "ks", data, tmp_path / "killed", store, options)
    again, was_kept = score_task(encoder, "ks", data, tmp_path / "killed", store, options)
    assert steps == [6, 12, 18, 24, *range(30, 61, 6)], "nothing was done twice"
    assert not was_kept
    assert again.to_json() == whole.to_json()
    assert [path.name for path in (tmp_path / "killed" / "ks").iterdir()] == [scoring.RESULT]


def test_a_shortened_run_says_so(scores: dict[str, Score]) -> None:
    assert scores["er"].deviations == {"updates": "300 of 30,000", "rates": "0.01, 0.001"}
    assert Options().deviations(TASKS["ks"].published) == {}


def test_a_task_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        StudyError, match=r"^--tasks: there is no task kss; did you mean ks\? there are ks, ic"
    ):
        check_tasks(["ks", "kss"])
    with pytest.raises(StudyError, match="names no task"):
        check_tasks([])
    assert check_tasks(["sid", "ks", "sid"]) == ("sid", "ks")


SOURCES = {
    "ks": "; unpack http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz there",
    "ic": "train_data.csv; ask for the data set at https://fluent.ai/",
    "sid": "; download https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/iden_split.txt there",
    "er": "EmoEvaluation; ask for it at https://sail.usc.edu/iemocap/",
}


@pytest.mark.parametrize("name", SOURCES)
def test_data_that_is_missing_gets_a_line_that_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        check_needs([name], tmp_path)
    assert str(error.value).startswith(f"{name}: there is no {tmp_path}")
    assert SOURCES[name] in str(error.value)
