"""Slot filling: marks, their metrics against other code and by hand, and heads that learn by heart."""

import os
from pathlib import Path

import corpora
import numpy as np
import pytest
import torch
from learners import dies_once

from wav2bold.errors import DataError
from wav2bold.evaluation import superb_listing
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.superb import frame_heads, sf, transcribing
from wav2bold.trainables.superb.frame_heads import augmented
from wav2bold.trainables.superb.protocol import Options, score_from
from wav2bold.trainables.superb.scoring import score_tasks
from wav2bold.trainables.superb.slots import slots_of, type_f1, value_errors
from wav2bold.trainables.superb.tasks import check_needs, heard_together


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(corpora.save_hearer(tmp_path_factory.mktemp("encoder"), seed=1)))


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ten")
    corpora.snips(root, same=True)
    return root


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads in proportion to an encoder of 128 features, that nothing keeps from learning by heart."""
    monkeypatch.setattr(sf, "PROJECTED", 64)
    monkeypatch.setattr(sf, "RECURRENT", 64)
    monkeypatch.setattr(frame_heads, "DROPOUT", 0.0)
    monkeypatch.setattr(transcribing, "augmented", lambda summed, *_: summed)


@pytest.mark.slow
def test_slots_of_ten_utterances_are_learnt_by_heart(
    encoder: Encoder, ten: Path, tmp_path: Path, small: None
) -> None:
    store = ActivationStore(tmp_path / "store")
    score, _ = score_tasks(encoder, ["sf"], ten, tmp_path, store, Options(updates=300, rates=(1e-2,)))["sf"]
    (errors,) = score.beside
    assert score.value == 1
    assert errors.value == 0
    assert score.higher_is_better
    assert not errors.higher_is_better
    assert score.dev == ({1e-2: 1.0},)
    course, lesson = sf.read(ten, Options())
    values = [slots_of(lesson.truth[row]) for row in course.fold.test]
    assert errors.wholes.tolist() == [
        sum(len(value) for own in slots.values() for value in own) for slots in values
    ]
    assert score_from(score.to_json()).to_json() == score.to_json()


def test_a_killed_lesson_goes_on_to_the_same(
    encoder: Encoder, ten: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(updates=6, rates=(1e-2, 1e-3))
    store = ActivationStore(tmp_path / "store")
    whole, _ = score_tasks(encoder, ["sf"], ten, tmp_path / "whole", store, options)["sf"]
    looks = dies_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        score_tasks(encoder, ["sf"], ten, tmp_path / "killed", store, options)
    again, kept = score_tasks(encoder, ["sf"], ten, tmp_path / "killed", store, options)["sf"]
    assert len(looks) == 7
    assert not kept
    assert again.to_json() == whole.to_json()
    assert score_tasks(encoder, ["sf"], ten, tmp_path / "killed", store, options)["sf"][1]
    rows = superb_listing.rows_of({"one": {"sf": whole}, "other": {"sf": again}})
    assert [(row.task, row.score.metric, row.encoder) for row in rows] == [
        ("sf", metric, encoder)
        for metric in ("slot type F1", "slot value CER")
        for encoder in ("one", "other")
    ]
    assert len(superb_listing.as_csv(rows).splitlines()) == 5
    assert [row.change is None for row in rows] == [True, False, True, False]
    assert superb_listing.as_json(rows).count('"slot value CER"') == 2


@pytest.mark.parametrize(
    ("truth", "told", "f1"),
    [
        ("PLAY B-artist MADONNA E-artist", "PLAY B-artist MAD E-artist", 1),
        ("PLAY B-artist MADONNA E-artist", "PLAY MADONNA", 0),
        ("PLAY", "PLAY", 1),
        ("PLAY", "B-artist PLAY E-artist", 0),
        ("B-artist A E-artist B-city B E-city", "B-artist A E-artist", 2 / 3),
        ("B-artist A E-artist B-city B E-city", "B-artist A E-artist B-year C E-year", 1 / 2),
        ("B-artist A E-artist", "B-artist A E-artist B-artist B E-artist", 1),
        ("B-artist A E-artist", "B-artist A E-city", 0),
    ],
)
def test_f1_is_of_the_slots_by_hand(truth: str, told: str, f1: float) -> None:
    assert type_f1(truth.split(), told.split()) == (pytest.approx(f1), 1)


def test_characters_of_values_are_counted_as_jiwer_does() -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("jiwer")
    import jiwer

    random = np.random.default_rng(0)
    for _ in range(30):
        true, told = (
            ["".join(random.choice(list("ABC "), random.integers(3, 9))).strip() or "A" for _ in range(2)]
            for _ in "ab"
        )
        true, told = ([" ".join(one.split()) for one in values] for values in (true, told))
        marked = [
            f"B-artist {artist} E-artist X B-city {city} E-city".split() for artist, city in (true, told)
        ]
        errors, characters = value_errors(*marked)
        assert errors / characters == pytest.approx(jiwer.cer(true, told))


@pytest.mark.parametrize(
    ("truth", "told", "counted"),
    [
        ("B-artist ABC E-artist", "ABC", (3, 3)),
        ("B-artist ABC E-artist", "B-artist XYZW E-artist B-artist ABD E-artist", (1, 3)),
        ("B-artist ABC E-artist B-artist X E-artist", "B-artist ABC E-artist", (3, 4)),
        ("B-artist ABC E-artist", "B-artist A B-city BC E-artist", (1, 3)),
        ("PLAY", "B-artist ABC E-artist", (0, 0)),
    ],
)
def test_the_nearest_value_counts_and_missing_ones_are_all_wrong(
    truth: str, told: str, counted: tuple[int, int]
) -> None:
    assert value_errors(truth.split(), told.split()) == counted


def test_marks_stand_where_a_slot_begins_and_ends() -> None:
    vocabulary = (*sf.CHARACTERS, "B-artist", "E-artist", "B-city", "E-city")
    number = {token: place for place, token in enumerate(vocabulary, start=1)}

    def told(words: str, slots: str) -> str:
        tokens = sf.tokens_of(words.split(), slots.split(), number, Path())
        return " ".join(sf.words_of(vocabulary, tokens.tolist()))

    assert told("PLAY THE ROCK IN ROME", "O artist artist O city") == (
        "PLAY B-artist THE ROCK E-artist IN B-city ROME E-city"
    )
    assert told("R & B , NOW", "artist artist artist O O") == "B-artist R AND B E-artist NOW"
    assert told("CAFÉ", "O") == "CAF<unk>"
    tokens = sf.tokens_of(["A", "B"], ["O", "city"], number, Path()).tolist()
    signs = ["A", " ", "B-city", "B", "E-city", ""]
    assert tokens == [number[sign] for sign in signs]
    assert (number[""], number["<unk>"], number[" "], number["A"]) == (1, 2, 3, 4)
    with pytest.raises(DataError, match=r"slots\.txt: has no slot year, which all\.iob\.snips\.txt has; get"):
        sf.tokens_of(["A"], ["year"], number, Path())


def test_voices_are_those_of_the_reference_in_each_part(tmp_path: Path) -> None:
    corpora.snips(tmp_path, sentences=2)
    course, lesson = sf.read(tmp_path, Options())
    for part, rows in zip(("train", "valid", "test"), vars(course.fold).values(), strict=True):
        folder = tmp_path / "SNIPS" / part
        voices = {"train": ("Ivy", "Salli"), "valid": ("Amy",), "test": ("Brian", "Emma")}[part]
        assert {course.clips[row].path for row in rows} == {
            path for voice in voices for path in folder.glob(f"{voice}-*.wav")
        }
    assert sorted(course.unit) == ["snips-test-0"] * 2 + ["snips-test-1"] * 2
    voices = [voice for own in sf.SPEAKERS.values() for voice in own]
    assert len(voices) == len(set(voices)) == 16
    text = (tmp_path / "SNIPS/all.iob.snips.txt").read_text()
    for clip, words in zip(course.clips, lesson.truth, strict=True):
        plain = " ".join(word for word in words if word[1:2] != "-")
        assert f"{clip.path.stem} BOS {plain} EOS\t" in text
    assert heard_together(["sf", "asr", "pr"]) == [("sf",), ("asr", "pr")]


def test_what_is_missing_gets_a_line_that_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^sf: there is no .*snips\.txt; get Audio SNIPS, preprocessed, as h"
    ):
        check_needs(["sf"], tmp_path)
    corpora.snips(tmp_path, sentences=1)
    check_needs(["sf"], tmp_path)
    folder = tmp_path / "SNIPS"
    (folder / "slots.txt").write_text("artist\n")
    with pytest.raises(DataError, match=r"slots\.txt: begins with 'artist', not with O"):
        sf.read(tmp_path, Options())
    (folder / "slots.txt").write_text("O\nartist\nobject_type\ncity")
    for path in (folder / "valid").glob("Amy*"):
        path.unlink()
    with pytest.raises(DataError, match=r"valid: no \*\.wav of Aditi, Amy, Geraint, Nicole that all\.iob"):
        sf.read(tmp_path, Options())
    (folder / "all.iob.snips.txt").write_text("Ivy-snips-train-0 BOS A B EOS\tO O PlayMusic\n")
    with pytest.raises(DataError, match=r"snips\.txt: line 1 has 2 words and 1 slots"):
        sf.read(tmp_path, Options())


def test_masks_that_adapt_grow_with_the_utterance() -> None:
    torch.manual_seed(0)
    for frames, masks in ((20, 0), (100, 4), (1000, 20)):
        hidden = [
            int((augmented(torch.rand(1, frames, 768) + 1, adapts=True)[0] == 0).all(1).sum())
            for _ in range(20)
        ]
        width = min(int(0.04 * frames), 40)
        assert max(hidden) <= masks * max(width - 1, 0)
        assert (max(hidden) > 0) == (masks > 0)
