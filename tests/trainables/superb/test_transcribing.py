"""Phones and words: heads overfit what they should, go on where they were, and count errors as others do."""

import os
from itertools import product
from pathlib import Path

import corpora
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learners import dies_once
from torch import nn

from wav2bold.errors import DataError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.superb import asr, frame_heads, pr, transcribing
from wav2bold.trainables.superb.draws import Buckets
from wav2bold.trainables.superb.edits import edits
from wav2bold.trainables.superb.frame_heads import FrameHead, augmented, ctc_loss, told_tokens, weighed
from wav2bold.trainables.superb.librispeech import PARTS, phones_of, read_lexicon, read_spoken
from wav2bold.trainables.superb.protocol import Options
from wav2bold.trainables.superb.scoring import score_tasks
from wav2bold.trainables.superb.tasks import check_needs, heard_together

TOKENS = st.lists(st.sampled_from("abc"), max_size=7)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(corpora.save_hearer(tmp_path_factory.mktemp("encoder"), seed=1)))


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ten")
    corpora.librispeech(root, same=True)
    return root


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads and masks in proportion to an encoder of 128 features."""
    monkeypatch.setattr(asr, "PROJECTED", 64)
    monkeypatch.setattr(asr, "RECURRENT", 64)
    monkeypatch.setattr(frame_heads, "FEATURE_WIDTH", 4)
    monkeypatch.setattr(frame_heads, "TIME_WIDTH", 4)


@given(TOKENS, TOKENS)
def test_edits_are_the_fewest_by_the_definition(truth: list[str], told: list[str]) -> None:
    def fewest(one: tuple[str, ...], other: tuple[str, ...]) -> int:
        if not one or not other:
            return len(one) + len(other)
        if one[0] == other[0]:
            return fewest(one[1:], other[1:])
        return 1 + min(fewest(one[1:], other), fewest(one, other[1:]), fewest(one[1:], other[1:]))

    assert edits(truth, told) == fewest(tuple(truth), tuple(told))


def test_error_rates_are_jiwers() -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("jiwer")
    import jiwer

    random = np.random.default_rng(0)
    for _ in range(50):
        truth, told = (random.choice(list("abcdefgh"), random.integers(1, 30)).tolist() for _ in range(2))
        assert edits(truth, told) / len(truth) == pytest.approx(jiwer.wer(" ".join(truth), " ".join(told)))


def test_phones_of_ten_utterances_are_learnt_by_heart(encoder: Encoder, ten: Path, tmp_path: Path) -> None:
    options = Options(updates=100, rates=(1e-2,))
    store = ActivationStore(tmp_path / "store")
    score, _ = score_tasks(encoder, ["pr"], ten, tmp_path, store, options)["pr"]
    assert score.value == 0
    assert not score.higher_is_better
    lexicon = read_lexicon(ten)
    spoken = read_spoken(ten)
    phones = [len(phones_of(spoken.words[row], lexicon, ten)) for row in spoken.fold.test]
    assert score.wholes.tolist() == phones
    assert score.weights.sum() == pytest.approx(1)


@pytest.mark.slow
def test_words_of_ten_utterances_are_learnt_by_heart(
    encoder: Encoder, ten: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what keeps heads from learning by heart is left out
    monkeypatch.setattr(frame_heads, "DROPOUT", 0.0)
    monkeypatch.setattr(transcribing, "augmented", lambda summed, *_: summed)
    store = ActivationStore(tmp_path / "store")
    options = Options(updates=400, rates=(1e-2,))
    score, _ = score_tasks(encoder, ["asr"], ten, tmp_path, store, options)["asr"]
    assert score.value == 0
    assert score.wholes.sum() == 14


def test_tasks_that_learn_together_are_each_as_by_itself_and_go_on_after_a_kill(
    encoder: Encoder, ten: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(updates=6, rates=(1e-2, 1e-3))
    store = ActivationStore(tmp_path / "store")
    together = score_tasks(encoder, ["pr", "asr"], ten, tmp_path / "together", store, options)
    alone = {
        name: score_tasks(encoder, [name], ten, tmp_path / "alone", store, options)[name]
        for name in ("pr", "asr")
    }
    looks = dies_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        score_tasks(encoder, ["pr", "asr"], ten, tmp_path / "killed", store, options)
    again = score_tasks(encoder, ["pr", "asr"], ten, tmp_path / "killed", store, options)
    assert len(looks) == 7, "three looks were kept, and the fourth is taken again"
    for name in ("pr", "asr"):
        assert again[name][0].to_json() == together[name][0].to_json() == alone[name][0].to_json()
        assert not again[name][1]
    kept = score_tasks(encoder, ["asr", "pr"], ten, tmp_path / "killed", store, options)
    assert all(was_kept for _, was_kept in kept.values())


def test_utterances_and_words_are_those_of_the_published_parts(tmp_path: Path) -> None:
    corpora.librispeech(tmp_path, utterances=4)
    spoken = read_spoken(tmp_path)
    for part, rows in vars(spoken.fold).items():
        folder = tmp_path / "LibriSpeech" / PARTS[part]
        assert {spoken.clips[row].path for row in rows} == set(folder.rglob("*.flac"))
        told = "".join(path.read_text() for path in sorted(folder.rglob("*.trans.txt"))).splitlines()
        assert [f"{spoken.names[row]} {' '.join(spoken.words[row])}" for row in rows] == told
    assert PARTS == {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}


def test_the_first_pronunciation_counts_and_a_lexicon_of_ones_own_adds_words(tmp_path: Path) -> None:
    folder = tmp_path / "LibriSpeech"
    folder.mkdir()
    (folder / "librispeech-lexicon.txt").write_text("A  AH0\nA  EY1\nTWO\tT UW1\n")
    (folder / "a-lexicon.txt").write_text("A X\nWAV2BOLD W EY1 V\n")
    lexicon = read_lexicon(tmp_path)
    assert phones_of(("A", "TWO", "WAV2BOLD"), lexicon, folder) == ("AH0", "T", "UW1", "W", "EY1", "V")
    with pytest.raises(DataError, match=r"librispeech-lexicon\.txt: has no word THREE; add it in a file of"):
        phones_of(("THREE",), lexicon, folder)


def test_what_is_missing_gets_a_line_that_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"train-clean-100; unpack https://www\.openslr\.org/resources/12/train"
    ):
        check_needs(["asr"], tmp_path)
    corpora.librispeech(tmp_path, utterances=1)
    check_needs(["asr", "pr"], tmp_path)
    (tmp_path / "LibriSpeech/librispeech-lexicon.txt").unlink()
    with pytest.raises(
        DataError, match=r"lexicon\.txt; download https://www\.openslr\.org/resources/11/libri"
    ):
        check_needs(["asr", "pr"], tmp_path)
    with pytest.raises(DataError, match="asr: TWO 2 has '2'; transcripts have letters"):
        asr.tokens_of(("TWO", "2"))


def test_words_come_back_from_their_characters() -> None:
    words = ("IT'S", "A", "BAR")
    assert tuple(asr.words_of(asr.tokens_of(words).tolist())) == words
    assert asr.words_of([]) == []


def test_a_padded_batch_is_told_as_each_utterance_by_itself() -> None:
    random = torch.Generator().manual_seed(0)
    states = [torch.randn(3, frames, 8, generator=random) for frames in (9, 5, 7)]
    for recurrent in (None, 6):
        head = FrameHead(3, 8, 4, 5, recurrent).eval()
        nn.init.normal_(head.layers)
        together, frames = head(states)
        assert frames.tolist() == [9, 5, 7]
        for own, one in zip(together, states, strict=True):
            alone, _ = head([one])
            torch.testing.assert_close(own[: one.shape[1]], alone[0])
            summed = sum(weight * layer for weight, layer in zip(head.layers.softmax(0), one, strict=True))
            if recurrent is None:
                truth = head.classify(head.project(summed)).log_softmax(1)
                torch.testing.assert_close(alone[0], truth)


def test_the_loss_is_minus_the_log_of_all_alignments_by_tokens() -> None:
    log_probabilities = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    tokens = torch.tensor([1, 2])
    total = 0.0
    for path in product(range(3), repeat=4):
        if told_tokens(nn.functional.one_hot(torch.tensor([path]), 3), torch.tensor([4]))[0] == [1, 2]:
            total += float(sum(log_probabilities[0, frame, token] for frame, token in enumerate(path)).exp())
    loss = ctc_loss(log_probabilities, torch.tensor([4]), [tokens])
    assert float(loss) == pytest.approx(-np.log(total) / 2, rel=1e-5)
    assert float(ctc_loss(log_probabilities, torch.tensor([1]), [tokens])) == 0, "too few frames"


def test_specaugment_hides_no_more_than_it_may_and_keeps_the_length() -> None:
    torch.manual_seed(0)
    states = torch.rand(1, 200, 768) + 1
    hidden_frames, hidden_features = [], []
    for _ in range(30):
        (told,) = augmented(states)
        assert told.shape == states[0].shape
        hidden_frames.append(int((told == 0).all(1).sum()))
        hidden_features.append(int((told == 0).all(0).sum()))
    assert 0 < max(hidden_frames) <= 2 * 39
    assert 0 < max(hidden_features) <= 4 * 49
    assert len(set(hidden_frames)) > 5


@pytest.mark.parametrize("adapts", [False, True])
def test_specaugment_of_all_states_is_that_of_their_weighted_sum(adapts: bool) -> None:
    states, layers = torch.randn(3, 150, 768), torch.tensor([0.5, -1.0, 2.0])
    torch.manual_seed(1)
    (before,) = weighed(layers, [augmented(states, adapts)])
    torch.manual_seed(1)
    (after,) = augmented(weighed(layers, [states])[0][None], adapts)
    torch.testing.assert_close(before, after)
    assert not torch.allclose(after, weighed(layers, [states])[0])


def test_batches_hold_clips_of_like_length_and_all_of_them_once_an_epoch() -> None:
    rows, lengths = np.arange(50, 60), np.array([5, 1, 9, 3, 8, 2, 7, 4, 6, 0])
    draws = Buckets(rows, lengths, 4, seed=0)
    epoch = [draws(step) for step in range(3)]
    assert sorted(np.concatenate(epoch)) == list(rows)
    assert {tuple(sorted(lengths[batch - 50])) for batch in epoch} == {(6, 7, 8, 9), (2, 3, 4, 5), (0, 1)}
    later = [tuple(draws(step)) for step in range(3, 30)]
    assert later == [tuple(Buckets(rows, lengths, 4, seed=0)(step)) for step in range(3, 30)]


def test_what_was_said_is_learnt_in_one_pass_and_other_tasks_each_by_itself() -> None:
    assert heard_together(["ks", "asr", "er", "pr"]) == [("ks",), ("er",), ("asr", "pr")]
    assert heard_together(["ks"]) == [("ks",)]
    assert pr.PUBLISHED.updates == 100_000
    assert asr.PUBLISHED.updates == 200_000
