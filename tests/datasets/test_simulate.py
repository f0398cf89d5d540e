"""The embedded dataset is what its truth says, the same for a seed, and whole or absent."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from listeners import RATE_HZ, speech
from transformers import AutoFeatureExtractor, Wav2Vec2Model

from wav2bold.config import Cleaning, Simulation, Study
from wav2bold.datasets import simulate as module
from wav2bold.datasets.cleaning import clean
from wav2bold.datasets.layouts.bids import find_runs
from wav2bold.datasets.simulate import ONSET_TRS, REST_TRS, Truth, brain_signal, scanner_noise, simulate
from wav2bold.datasets.spaces import fsaverage5_patch
from wav2bold.datasets.teacher import hear
from wav2bold.errors import DataError

OPTIONS = Simulation(
    subjects=2,
    null_subjects=1,
    stories=3,
    minutes=2,
    tr_s=1.5,
    history=4,
    hearing_targets=20,
    silent_targets=8,
    ceiling=0.7,
    seed=3,
)
QUICK = OPTIONS.model_copy(update={"subjects": 1, "null_subjects": 0, "minutes": 0.5})


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine recordings of a minute."""
    folder = tmp_path_factory.mktemp("speech") / "reader"
    folder.mkdir()
    for number in range(9):
        soundfile.write(folder / f"{number}.wav", speech(60, number), RATE_HZ)
    return folder


@pytest.fixture(scope="module")
def made(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    out = tmp_path_factory.mktemp("simulated") / "recordings"
    return out, simulate(out, OPTIONS, recordings)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def brain_of(root: Path, subject: str, recording: str) -> np.ndarray:
    """(volumes, vertices) of both hemispheres."""
    files = sorted((root / subject / "func").glob(f"{subject}_task-{recording}_hemi-*_bold.func.gii"))
    assert len(files) == 2
    return np.concatenate([np.stack([array.data for array in nib.load(f).darrays]) for f in files], axis=1)


def recorded(root: Path, subject: str, story: str, run: str = "") -> np.ndarray:
    """(volumes, 28) of the patch, cleaned as `prepare` would."""
    brain = brain_of(root, subject, f"{story}{run}")
    varying = np.flatnonzero(np.ptp(brain, axis=0) > 0)
    np.testing.assert_array_equal(varying, fsaverage5_patch(20, 8).index)
    return clean(brain[:, varying], OPTIONS.tr_s, Cleaning())


def signal(root: Path, person: int, story: str) -> np.ndarray:
    """What the person's brain evokes at each volume with a complete history, from the teacher as saved."""
    teacher = Wav2Vec2Model.from_pretrained(root / "truth" / "teacher").eval()
    sound, _ = soundfile.read(root / "stimuli" / f"{story}.wav", dtype="float32")
    times_s = np.arange(OPTIONS.history, OPTIONS.minutes * 60 / OPTIONS.tr_s + 1) * OPTIONS.tr_s
    heard = hear(teacher, sound, times_s, OPTIONS.tr_s, OPTIONS.history)
    mixing = np.random.default_rng([OPTIONS.seed, 2, person]).standard_normal((32, 28))
    return brain_signal(heard, OPTIONS.tr_s, mixing)


def r(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, two.T, strict=True)])


def of_story(y: np.ndarray) -> np.ndarray:
    return y[ONSET_TRS + OPTIONS.history : -REST_TRS]


# The same, or another


def test_the_same_seed_gives_the_same_bytes_in_every_file(recordings: Path, tmp_path: Path) -> None:
    one, two, three = tmp_path / "a" / "out", tmp_path / "b" / "out", tmp_path / "c" / "out"
    for out in (one, two):
        simulate(out, QUICK, recordings)
    simulate(three, QUICK.model_copy(update={"seed": 4}), recordings)
    assert tree(one) == tree(two)
    other = tree(three)
    assert tree(one).keys() == other.keys()
    same = {name for name, content in tree(one).items() if other[name] == content}
    assert not [name for name in same if name.endswith((".gii", ".wav", ".safetensors"))]


def test_volumes_written_twice_have_the_same_bytes_too(recordings: Path, tmp_path: Path) -> None:
    options = QUICK.model_copy(update={"space": "mni"})
    for name in ("a", "b"):
        simulate(tmp_path / name / "out", options, recordings)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


# What the BOLD holds


@pytest.mark.parametrize(("person", "subject"), [(0, "sub-001"), (1, "sub-002")])
def test_the_truth_explains_what_hears_up_to_the_ceiling(
    made: tuple[Path, Truth], person: int, subject: str
) -> None:
    root, _ = made
    hearing = fsaverage5_patch(20, 8).hearing
    scores = np.mean(
        [
            r(of_story(recorded(root, subject, story)), signal(root, person, story))
            for story in ("story01", "story03")
        ],
        axis=0,
    )
    # cleaning takes a little of the signal with the drift
    assert 0.9 * OPTIONS.ceiling < scores[hearing].mean() < 1.05 * OPTIONS.ceiling
    assert abs(scores[~hearing].mean()) < 0.1


def test_one_persons_truth_says_less_of_another(made: tuple[Path, Truth]) -> None:
    root, _ = made
    hearing = fsaverage5_patch(20, 8).hearing
    y = of_story(recorded(root, "sub-001", "story01"))
    assert np.abs(r(y, signal(root, 1, "story01"))[hearing]).mean() < 0.5 * OPTIONS.ceiling


def test_a_null_subject_hears_nothing(made: tuple[Path, Truth]) -> None:
    root, truth = made
    assert truth.null_subjects == ("sub-null1",)
    y = np.concatenate([of_story(recorded(root, "sub-null1", story)) for story in ("story01", "story03")])
    for person in range(3):
        said = np.concatenate([signal(root, person, story) for story in ("story01", "story03")])
        assert abs(r(y, said).mean()) < 0.1


def test_the_last_story_but_one_is_heard_twice_and_the_noise_is_not_the_same(
    made: tuple[Path, Truth],
) -> None:
    root, _ = made
    hearing = fsaverage5_patch(20, 8).hearing
    one, two = (of_story(recorded(root, "sub-001", "story02", f"_run-{run}")) for run in (1, 2))
    repeated = r(one, two)
    assert repeated[hearing].mean() == pytest.approx(OPTIONS.ceiling**2, abs=0.1)
    assert abs(repeated[~hearing].mean()) < 0.15


def test_the_response_is_glovers_over_the_history() -> None:
    """A single event in one state evokes the response of that event, volume by volume."""
    from nilearn.glm.first_level import glover_hrf

    volumes, history = 60, 6
    event = np.zeros(volumes + history)
    event[20] = 1
    heard = np.stack([event[t : t + history] for t in range(volumes)])[:, :, None].astype(np.float32)
    heard += 1e-3 * np.random.default_rng(0).standard_normal(heard.shape).astype(np.float32)  # else constant
    evoked = brain_signal(heard, 1.5, np.ones((1, 1)))[:, 0]
    response = np.zeros(volumes)
    first = 20 - history + 1  # the first window that holds the event, as its newest TR
    response[first : first + history] = glover_hrf(1.5, oversampling=1, time_length=32.0)[:history]
    assert np.corrcoef(evoked, response)[0, 1] > 0.99
    assert evoked.std() == pytest.approx(1)


def test_noise_remembers_one_volume_by_its_coefficient() -> None:
    noise = scanner_noise(4000, 30, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1, abs=0.02)
    for lag in (1, 2, 3):
        found = np.mean([np.corrcoef(noise[:-lag, v], noise[lag:, v])[0, 1] for v in range(30)])
        assert found == pytest.approx(0.4**lag, abs=0.02)


# What is written


def test_the_bids_layout_reads_it_back(made: tuple[Path, Truth]) -> None:
    root, truth = made
    runs = find_runs(root)
    people = (*truth.subjects, *truth.null_subjects)
    names = [f"{who}/{story}" for who in people for story in ("story01", "story02", "story02/2", "story03")]
    assert [run.name for run in runs] == names
    assert {(run.tr_s, run.onset_s, run.space) for run in runs} == {(1.5, ONSET_TRS * 1.5, "fsaverage5")}
    for run in runs:
        assert soundfile.info(run.audio).duration == 120
        assert len(nib.load(run.bold[0]).darrays) == ONSET_TRS + 80 + 1 + REST_TRS
    assert pd.read_csv(root / "participants.tsv", sep="\t").participant_id.tolist() == list(people)


def test_it_is_written_as_volumes_where_that_is_asked(recordings: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "out", QUICK.model_copy(update={"space": "mni"}), recordings)
    runs = find_runs(tmp_path / "out")
    assert {run.space for run in runs} == {"MNI152NLin2009cAsym"}
    data = nib.load(runs[0].bold[0]).get_fdata()
    assert (data.std(-1) > 0).sum() == 28


def test_the_encoder_lacks_what_the_truth_says_and_nothing_else(made: tuple[Path, Truth]) -> None:
    root, truth = made
    teacher, student = (
        Wav2Vec2Model.from_pretrained(root / name).state_dict() for name in ("truth/teacher", "encoder")
    )
    changed = {key for key in teacher if not torch.equal(teacher[key], student[key])}
    assert {key.split(".")[3] for key in changed} == set(truth.options["perturbed"])
    assert {int(key.split(".")[2]) for key in changed} == set(truth.options["perturbed_layers"])
    assert AutoFeatureExtractor.from_pretrained(root / "encoder").sampling_rate == RATE_HZ


def test_the_truth_is_on_disk_as_it_was_given(made: tuple[Path, Truth]) -> None:
    root, truth = made
    said = json.loads((root / "truth" / "truth.json").read_text())
    assert said["options"] == truth.options == OPTIONS.model_dump(mode="json")
    assert tuple(said["subjects"]) == truth.subjects == ("sub-001", "sub-002")
    assert tuple(said["stories"]) == truth.stories == ("story01", "story02", "story03")
    assert said["noise"] == "AR(1) and drift"
    assert said["speech"] == "recorded, reader"


def test_its_study_refines_its_encoder_for_those_who_hear(made: tuple[Path, Truth]) -> None:
    root, truth = made
    study = Study.load(root / "study.yaml")
    assert Path(study.encoder) == root / "encoder"
    assert study.subjects == truth.subjects
    assert (study.split.validation, study.split.test) == (("story02",), ("story03",))
    assert study.seed == OPTIONS.seed


def test_real_noise_is_called_semi_synthetic(recordings: Path, tmp_path: Path) -> None:
    rest = scanner_noise(60, 40, np.random.default_rng(0))
    np.save(tmp_path / "rest.npy", rest)
    truth = simulate(tmp_path / "out", QUICK, recordings, tmp_path / "rest.npy")
    assert truth.noise == "semi-synthetic: real resting-state BOLD, rest.npy"
    assert json.loads((tmp_path / "out" / "truth" / "truth.json").read_text())["noise"] == truth.noise
    silent = ~fsaverage5_patch(20, 8).hearing
    index = fsaverage5_patch(20, 8).index[silent]
    brain = brain_of(tmp_path / "out", "sub-001", "story01")
    y = brain[:, index]
    found = max(
        abs(r(np.repeat(y[:, :1], 40, axis=1), rest[start : start + len(y)])).max()
        for start in range(60 - len(y) + 1)
    )
    assert found > 0.999  # a silent target is a stretch of the recording itself


# Mistakes


def test_a_folder_that_holds_anything_is_not_touched(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(DataError) as raised:
        simulate(tmp_path / "out", QUICK, recordings)
    assert str(raised.value) == f"{tmp_path / 'out'}: is not empty; choose another folder or remove it"
    assert tree(tmp_path) == {"out/mine.txt": b"mine"}


def test_a_file_in_the_place_of_the_folder_is_refused(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DataError, match="out: is not empty"):
        simulate(tmp_path / "out", QUICK, recordings)


@pytest.mark.parametrize("out", [".", "../here", "new"])
def test_an_empty_or_absent_folder_is_filled(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    place = Path(out).resolve()
    simulate(out, QUICK, recordings)
    assert (place / "truth" / "truth.json").is_file()
    assert not list(tmp_path.rglob("*.partial"))


def test_more_stories_than_can_be_told_are_refused_before_anything_is_written(
    recordings: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as raised:
        simulate(tmp_path / "out", OPTIONS.model_copy(update={"stories": 99}))
    assert str(raised.value) == (
        "99 stories are wanted, there are 8 to be spoken; "
        "ask for --stories 8 or give recordings with --speech DIR"
    )
    with pytest.raises(DataError, match=r"reader: 9 recordings give .* 20 stories of 2 minutes need 40"):
        simulate(tmp_path / "out", OPTIONS.model_copy(update={"stories": 20}), recordings)
    assert not list(tmp_path.iterdir())


def test_noise_that_is_too_short_is_refused_before_anything_is_written(
    recordings: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "rest.npy", np.random.default_rng(0).standard_normal((20, 40)))
    with pytest.raises(DataError, match=r"rest.npy: has 20 volumes, 31 are needed"):
        simulate(tmp_path / "out", QUICK, recordings, tmp_path / "rest.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["rest.npy"]


def test_what_fails_half_way_leaves_nothing_behind(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module.write_run

    def full_disk(root: Path, subject: str, story: str, *rest: object) -> object:
        if story == "story03":
            raise OSError("no space left on device")
        return whole(root, subject, story, *rest)

    monkeypatch.setattr(module, "write_run", full_disk)
    with pytest.raises(OSError, match="no space left"):
        simulate(tmp_path / "out", QUICK, recordings)
    assert not list(tmp_path.iterdir())
