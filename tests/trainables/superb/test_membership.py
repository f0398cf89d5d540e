"""Who trains, who chooses and who tests: by the data sets' own lists and rules."""

from pathlib import Path

import corpora
import numpy as np
import pytest

from wav2bold.errors import DataError
from wav2bold.trainables.superb import er, ic, ks, sid
from wav2bold.trainables.superb.clips import Clip, crops, digest_of, file_samples
from wav2bold.trainables.superb.protocol import Options
from wav2bold.trainables.superb.utterances import Utterances


def names(utterances: Utterances, rows: np.ndarray) -> set[str]:
    return {utterances.clips[row].path.relative_to(utterances.root).as_posix() for row in rows}


def disjoint(utterances: Utterances) -> bool:
    return all(
        len(set(fold.train) | set(fold.dev) | set(fold.test))
        == len(fold.train) + len(fold.dev) + len(fold.test)
        for fold in utterances.folds
    )


def test_speakers_of_the_published_lists_are_where_those_have_them() -> None:
    for part, speakers in (("dev", corpora.DEV_SPEAKERS), ("test", corpora.TEST_SPEAKERS)):
        assert {
            ks.part_of(f"{speaker}_nohash_{number}.wav") for speaker in speakers for number in range(9)
        } == {part}


def test_a_tenth_of_the_speakers_chooses_and_a_tenth_is_left_out() -> None:
    parts = [ks.part_of(f"{number:08x}_nohash_0.wav") for number in range(20_000)]
    # four standard deviations of a share of 0.1 in 20,000 are 0.0085
    assert parts.count("dev") / len(parts) == pytest.approx(0.1, abs=0.0085)
    assert parts.count("test") / len(parts) == pytest.approx(0.1, abs=0.0085)


def test_keywords_test_on_the_archive_made_for_it_and_the_main_ones_test_speakers_are_left_out(
    tmp_path: Path,
) -> None:
    corpora.speech_commands(tmp_path, takes=2)
    utterances = ks.read(tmp_path, Options())
    (fold,) = utterances.folds
    assert disjoint(utterances)
    test = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / ks.TEST_FOLDER).rglob("*.wav")}
    assert names(utterances, fold.test) == test
    noise = f"{ks.FOLDER}/{ks.NOISE}"
    spoken = {name for name in names(utterances, fold.dev) if not name.startswith(noise)}
    assert spoken == {
        f"{ks.FOLDER}/{path.parent.name}/{path.name}"
        for speaker in corpora.DEV_SPEAKERS
        for path in (tmp_path / ks.FOLDER).glob(f"*/{speaker}_*.wav")
    }
    assert not any(corpora.TEST_SPEAKERS[0] in name for name in names(utterances, fold.train))
    labels = [ks.CLASSES[label] for (label,) in utterances.labels]
    for row, clip in enumerate(utterances.clips):
        word = clip.path.parent.name
        expected = {"bed": "_unknown_", "cat": "_unknown_", "tree": "_unknown_", ks.NOISE: "_silence_"}
        assert labels[row] == expected.get(word, word)
    silence = [clip for clip in utterances.clips if clip.path.parent.name == ks.NOISE]
    assert {clip.stop - clip.start for clip in silence if clip.stop} == {16_000}
    assert len(silence) == 2 * 12


def test_commands_are_those_of_the_lists_in_their_order(tmp_path: Path) -> None:
    corpora.fluent_speech_commands(tmp_path, 2)
    home = tmp_path / ic.FOLDER
    utterances = ic.read(tmp_path, Options())
    (fold,) = utterances.folds
    for rows, part in ((fold.train, "train"), (fold.dev, "valid"), (fold.test, "test")):
        lines = (home / "data" / f"{part}_data.csv").read_text().splitlines()[1:]
        told = [utterances.clips[row].path.relative_to(home).as_posix() for row in rows]
        assert told == [line.split(",")[1] for line in lines]
        for row, line in zip(rows, lines, strict=True):
            action, thing, place = line.split(",")[4:]
            values = (["activate", "deactivate", "increase"], ["lights", "music"], ["kitchen", "none"])
            truth = [own.index(word) for own, word in zip(values, (action, thing, place), strict=True)]
            assert utterances.labels[row].tolist() == truth
    assert utterances.classes == (3, 2, 2)


def test_a_value_that_training_never_has_can_not_be_told(tmp_path: Path) -> None:
    corpora.fluent_speech_commands(tmp_path, 2)
    path = tmp_path / ic.FOLDER / "data" / "test_data.csv"
    path.write_text(path.read_text().replace(",increase,", ",bring,"))
    utterances = ic.read(tmp_path, Options())
    unknown = utterances.labels[:, 0] == -1
    assert set(np.flatnonzero(unknown)) < set(utterances.folds[0].test)
    assert unknown.sum() == 8


def test_speakers_are_split_as_the_identification_list_says(tmp_path: Path) -> None:
    corpora.voxceleb1(tmp_path, ("en", "en", "en"))
    root = tmp_path / sid.FOLDER
    utterances = sid.read(tmp_path, Options(crops=3))
    (fold,) = utterances.folds
    lines = [line.split() for line in (root / sid.LIST).read_text().splitlines()]
    for number, rows in (("1", fold.train), ("2", fold.dev), ("3", fold.test)):
        told = {name.partition("/wav/")[2] for name in names(utterances, rows)}
        assert told == {name for part, name in lines if part == number}
    assert utterances.classes == (3,)
    assert {clip.path.parts[-5] for clip in utterances.clips} == {"dev", "test"}
    long = [clip for clip in utterances.clips if clip.path.name == "00000.wav"]
    assert len(long) == 3 * 3, "3 crops of each of 3 files of 17 s"
    assert {(clip.start, clip.stop) for clip in long} == {
        (start, start + 8 * 16_000) for start in (0, 72_000, 144_000)
    }
    for row, clip in enumerate(utterances.clips):
        assert utterances.labels[row, 0] == int(clip.path.parts[-3][2:]) - 10_001
        assert utterances.unit[row] == clip.path.parts[-3]


def test_a_recording_of_the_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    corpora.voxceleb1(tmp_path, ("en",))
    gone = next((tmp_path / sid.FOLDER).rglob("*.wav"))
    gone.unlink()
    with pytest.raises(
        DataError, match=rf"neither dev/wav nor test/wav has {'/'.join(gone.parts[-3:])}; unpack"
    ):
        sid.read(tmp_path, Options())
    (tmp_path / sid.FOLDER / sid.LIST).write_text("1 id10001/a\n")
    with pytest.raises(DataError, match="line 1 is no part and name: 1 id10001/a; download"):
        sid.read(tmp_path, Options())


def test_each_session_is_tested_by_the_other_four_of_which_a_fifth_chooses(tmp_path: Path) -> None:
    corpora.iemocap(tmp_path, 3)
    utterances = er.read(tmp_path, Options())
    sessions = np.array([int(clip.path.parent.name[3:5]) for clip in utterances.clips])
    assert disjoint(utterances)
    assert len(utterances.clips) == 5 * 3 * 5, "frustration is left out"
    for number, fold in enumerate(utterances.folds, start=1):
        assert set(fold.test) == set(np.flatnonzero(sessions == number))
        assert len(fold.train) == 48
        assert len(fold.dev) == 12
    text = (tmp_path / er.FOLDER / "Session3/dialog/EmoEvaluation/Ses03F_impro01.txt").read_text()
    numbers = {"neu": 0, "hap": 1, "exc": 1, "ang": 2, "sad": 3}
    for clip, (label,) in zip(utterances.clips, utterances.labels, strict=True):
        if clip.path.stem.startswith("Ses03"):
            assert numbers[text.split(f"\t{clip.path.stem}\t")[1][:3]] == label


def test_a_data_set_without_a_part_is_refused(tmp_path: Path) -> None:
    corpora.fluent_speech_commands(tmp_path, 1)
    path = tmp_path / ic.FOLDER / "data" / "valid_data.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="no clips for ic's dev set"):
        ic.read(tmp_path, Options())
    path.write_text("path,action\n")
    with pytest.raises(DataError, match=r"valid_data\.csv: has no column object; ask for"):
        ic.read(tmp_path, Options())


def test_crops_lie_within_their_file_and_a_short_file_is_whole(tmp_path: Path) -> None:
    corpora.write(tmp_path / "long.wav", np.zeros(40_000, np.float32))
    corpora.write(tmp_path / "short.wav", np.zeros(900, np.float32))
    assert crops(tmp_path / "short.wav", 1000, 4) == [Clip(tmp_path / "short.wav")]
    assert [(one.start, one.stop) for one in crops(tmp_path / "long.wav", 20_000, 3)] == [
        (0, 20_000),
        (10_000, 30_000),
        (20_000, 40_000),
    ]
    assert [(one.start, one.stop) for one in crops(tmp_path / "long.wav", 20_000, 1)] == [(10_000, 30_000)]


def test_a_list_of_clips_is_known_again_and_any_change_is_seen(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.wav" for name in "ab"]
    for path in paths:
        corpora.write(path, np.zeros(1600, np.float32))
    clips = [Clip(path) for path in paths]
    digest = digest_of(clips, tmp_path)
    assert digest == digest_of(list(clips), tmp_path)
    others = (clips[::-1], clips[:1], [clips[0], Clip(paths[1], 1)], [clips[0], Clip(paths[1], gain=0.5)])
    assert len({digest, *(digest_of(other, tmp_path) for other in others)}) == 5
    corpora.write(paths[1], np.zeros(1601, np.float32))
    assert digest_of(clips, tmp_path) != digest
    with pytest.raises(DataError, match=r"c\.wav: no such file; unpack"):
        digest_of([Clip(tmp_path / "c.wav")], tmp_path)
    (tmp_path / "c.wav").write_text("no sound")
    with pytest.raises(DataError, match=r"c\.wav: not audio"):
        file_samples(tmp_path / "c.wav")
