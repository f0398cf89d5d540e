"""Speaker verification: the published trials, dev trials of held out speakers, and heads that tell voices."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import corpora
import numpy as np
import pytest
import torch
from learners import dies_once, on_one_core
from scipy.special import logsumexp

from wav2bold.errors import DataError
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.encoder import Encoder, load_encoder
from wav2bold.trainables.superb import asv, verifying
from wav2bold.trainables.superb.clips import Clip
from wav2bold.trainables.superb.protocol import Options, Score
from wav2bold.trainables.superb.scoring import score_tasks
from wav2bold.trainables.superb.tasks import check_needs
from wav2bold.trainables.superb.verifying import VerifyingLesson, XVector, am_softmax

SHORT = Options(updates=120, rates=(3e-4,))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Heads and batches in proportion to a small encoder, on one core."""
    monkeypatch.setattr(verifying, "WIDTH", 128)
    monkeypatch.setattr(verifying, "POOLED", 128)
    monkeypatch.setattr(asv, "PUBLISHED", replace(asv.PUBLISHED, batch=24))
    monkeypatch.setattr(asv, "HELD_OUT", 5)
    with on_one_core():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    corpora.voxceleb1_trials(root)
    return root


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(str(corpora.save_hearer(tmp_path_factory.mktemp("encoder"), seed=2)))


def scored(encoder: Encoder, data: Path, folder: Path, options: Options) -> Score:
    return score_tasks(encoder, ["asv"], data, folder, ActivationStore(folder / "store"), options)["asv"][0]


def test_voices_that_nobody_trained_on_are_told_apart_far_above_chance(
    encoder: Encoder, data: Path, tmp_path: Path
) -> None:
    """Chance is 0.5; encoders with random weights must come below 0.4 in the mean of two. They have 0.30."""
    other = load_encoder(str(corpora.save_hearer(tmp_path / "other", seed=3)))
    scores = [scored(one, data, tmp_path / one.digest, SHORT) for one in (encoder, other)]
    assert np.mean([score.value for score in scores]) < 0.4
    assert scores[0].statistic == "eer"
    assert scores[0].wholes.tolist() == [int(line[0]) for line in lines_of(data)]
    assert scores[0].unit.tolist() == [
        [name.split("/")[0] for name in line.split()[1:]] for line in lines_of(data)
    ]


def test_training_that_was_killed_goes_on_to_the_same_numbers(
    encoder: Encoder, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asv, "CROP_SAMPLES", 16_000)  # so that crops are drawn
    options = Options(updates=4, rates=(1e-2, 1e-4))
    whole = scored(encoder, data, tmp_path / "whole", options)
    looks = dies_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        scored(encoder, data, tmp_path / "killed", options)
    assert scored(encoder, data, tmp_path / "killed", options).to_json() == whole.to_json()
    assert len(looks) == 5, "two looks were kept, and the third is taken again"


def test_as_published_all_speakers_train_and_the_test_trials_choose(
    encoder: Encoder, data: Path, tmp_path: Path
) -> None:
    options = Options(updates=2, rates=(1e-3,), as_published=True)
    course, lesson = asv.read(data, options)
    assert course.fold.dev.tolist() == course.fold.test.tolist()
    assert lesson.speakers == len(list((data / "VoxCeleb1/dev/wav").iterdir()))
    score = scored(encoder, data, tmp_path, options)
    assert score.value == score.dev[0][1e-3], "what is told is the best look at the test set itself"
    assert score.deviations["as published"] == "learning rate and checkpoint chosen on the test set"
    scores = score_tasks(encoder, ["asv"], data, tmp_path, ActivationStore(tmp_path / "s"), options)
    assert scores["asv"][1], "it is kept"
    other = replace(options, as_published=False)
    scores = score_tasks(encoder, ["asv"], data, tmp_path, ActivationStore(tmp_path / "s"), other)
    assert not scores["asv"][1], "but for no other choice"
    assert "as published" not in scores["asv"][0].deviations


def test_who_trains_chooses_and_tests_is_by_the_list_and_by_speakers_names(data: Path) -> None:
    course, lesson = asv.read(data, Options())
    names = [clip.path.relative_to(data / "VoxCeleb1").as_posix() for clip in course.clips]
    speakers = {part: {names[row].split("/")[2] for row in rows} for part, rows in vars(course.fold).items()}
    ordered = sorted(
        (path.name for path in (data / "VoxCeleb1/dev/wav").iterdir()),
        key=lambda name: hashlib.sha1(name.encode()).hexdigest(),
    )
    assert speakers["dev"] == set(ordered[:7])
    assert speakers["train"] == set(ordered[7:])
    listed = {name for line in lines_of(data) for name in line.split()[1:]}
    assert {names[row].partition("/wav/")[2] for row in course.fold.test} == listed
    assert {names[row].split("/")[0] for row in course.fold.test} == {"test"}
    assert set(lesson.speaker[course.fold.train]) == set(range(lesson.speakers))
    tested = lesson.trials[np.isin(lesson.trials[:, 1], course.fold.test)]
    assert [
        f"{same} {names[one].partition('/wav/')[2]} {names[other].partition('/wav/')[2]}"
        for same, one, other in tested
    ] == lines_of(data)


def test_forty_speakers_of_voxceleb1_are_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len(asv.held_out({f"id{10001 + number}" for number in range(1211)})) == 40


def test_dev_trials_are_of_one_speakers_two_videos_or_of_two_speakers() -> None:
    names = [f"id{speaker}/v{video}/{n}.wav" for speaker in range(3) for video in range(2) for n in range(4)]
    trials = asv.dev_trials(names, 0)
    assert trials == asv.dev_trials(names, 0) != asv.dev_trials(names, 1)
    assert [one for _, one, _ in trials] == [name for name in names for _ in range(2)]
    for same, one, other in trials:
        assert (one[:3] == other[:3]) == bool(same)
        assert one[:6] != other[:6], "never of one video"
    assert [same for same, *_ in trials] == [1, 0] * len(names)


def test_crops_are_of_eight_seconds_anywhere_in_a_file(tmp_path: Path) -> None:
    corpora.write(tmp_path / "long.wav", np.zeros(20 * 16_000, np.float32))
    corpora.write(tmp_path / "short.wav", np.zeros(3 * 16_000, np.float32))
    random = np.random.default_rng(0)
    crops = [asv.crop(Clip(tmp_path / "long.wav"), random) for _ in range(200)]
    starts = np.array([one.start for one in crops])
    assert {one.stop - one.start for one in crops if one.stop} == {8 * 16_000}
    assert starts.min() < 16_000 < 11 * 16_000 < starts.max() <= 12 * 16_000
    assert asv.crop(Clip(tmp_path / "short.wav"), random) == Clip(tmp_path / "short.wav")


def test_am_softmax_is_its_formula() -> None:
    random = np.random.default_rng(0)
    embedded, speakers = random.standard_normal((5, 8)), random.standard_normal((8, 4))
    own = np.array([0, 3, 1, 1, 2])
    cosines = (embedded @ speakers) / (
        np.linalg.norm(embedded, axis=1)[:, None] * np.linalg.norm(speakers, axis=0)
    )
    truth = 0.0
    for row, speaker in enumerate(own):
        lowered = 30 * (cosines[row, speaker] - 0.4)
        rest = np.delete(30 * cosines[row], speaker)
        truth -= lowered - logsumexp([lowered, *rest])
    loss = am_softmax(*map(torch.from_numpy, (embedded, speakers, own)))
    assert float(loss) == pytest.approx(truth)


def test_a_padded_recording_has_the_embedding_that_it_has_alone() -> None:
    random = torch.Generator().manual_seed(0)
    states = [torch.randn(3, frames, 8, generator=random) for frames in (40, 16, 29)]
    head = XVector(4, 3, 8)
    together = head(states)
    for own, one in zip(together, states, strict=True):
        torch.testing.assert_close(own, head([one])[0])


def test_frames_are_seen_in_the_surroundings_of_an_x_vector() -> None:
    """What each frame's output depends on: 7 frames to either side, as in Snyder et al. 2018."""
    head = XVector(2, 1, 4).double()
    states = torch.randn(1, 31, 4, dtype=torch.float64, requires_grad=True)
    seen = head.surroundings(head.project(states[0]).T[None])
    assert seen.shape == (1, 128, 31 - 14)
    seen[0, :, 8].sum().backward()
    moved = states.grad[0].abs().sum(1) > 0
    assert np.flatnonzero(moved).min() == 8
    assert np.flatnonzero(moved).max() == 22


def test_cosines_that_are_not_numbers_tell_nothing() -> None:
    lesson = VerifyingLesson(np.array([-1] * 3), 2, np.array([[1, 0, 1], [0, 0, 2]]), 1, 1)
    told = [np.full(3, np.nan)] * 3
    assert lesson.judged(told, np.arange(3), None).score == 0.5


def test_lists_and_files_that_are_missing_or_broken_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^asv: there is no .*veri_test\.txt; download https://www\.robots"):
        check_needs(["asv"], tmp_path)
    home = tmp_path / "VoxCeleb1"
    (home / "dev" / "wav").mkdir(parents=True)
    (home / "veri_test.txt").write_text("1 id1/a/1.wav\n")
    with pytest.raises(DataError, match=r"line 1 is no trial: 1 id1/a/1\.wav; download"):
        asv.read(tmp_path, Options())
    (home / "veri_test.txt").write_text("1 id1/a/1.wav id1/b/1.wav\n")
    with pytest.raises(DataError, match="needs trials of one speaker and of two"):
        asv.read(tmp_path, Options())
    (home / "veri_test.txt").write_text("1 id1/a/1.wav id1/b/1.wav\n0 id1/a/1.wav id2/b/1.wav\n")
    with pytest.raises(DataError, match="dev/wav: too few speakers; unpack"):
        asv.read(tmp_path, Options())


def lines_of(data: Path) -> list[str]:
    return (data / "VoxCeleb1/veri_test.txt").read_text().splitlines()
