"""`prepare` writes the targets that are asked for, and ceilings from no recording that tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import here, succeeds
from nilearn.maskers import NiftiLabelsMasker
from recordings import (
    add_events,
    add_story,
    add_surfaces,
    add_volumes,
    noise,
    save_labels,
    save_surface_labels,
)

from wav2bold import steps
from wav2bold.config import Cleaning, Split, Study, Targets
from wav2bold.datasets.ceiling import ceiling, repeat_correlation
from wav2bold.datasets.prepare import Prepared, prepare
from wav2bold.datasets.shards import Shards, open_shards
from wav2bold.errors import DataError

pytestmark = pytest.mark.usefixtures("small_ray")
PLAIN = Cleaning(high_pass_s=None, detrend=False)
SHAPE, VOLUMES = (3, 4, 2), 60
STORIES = ("alice", "bakery", "castle", "dune")
SPLIT = Split(validation=("castle",), test=("dune",))


def heard(story: str, listener: int, repeat: int = 1) -> np.ndarray:
    """(i, j, k, volumes): the first 12 voxels share 0.8 of their variance in all who hear it, others none."""
    common = np.random.default_rng(STORIES.index(story)).standard_normal((24, VOLUMES))
    own = np.random.default_rng([STORIES.index(story), listener, repeat]).standard_normal((24, VOLUMES))
    share = np.where(np.arange(24) < 12, 0.8, 0.0)[:, None]
    y = np.sqrt(share) * common + np.sqrt(1 - share) * own
    return (1000 + 10 * y).reshape(*SHAPE, VOLUMES).astype(np.float32)


def record(root: Path, listeners: int = 3, twice: Sequence[str] = ()) -> Path:
    """Everybody hears all stories from 4 s on, once or twice."""
    for number, story in enumerate(STORIES):
        add_story(root, story, 100.0, seed=number)
        for listener in range(1, listeners + 1):
            for repeat in (1, 2) if story in twice else (1,):
                subject = f"sub-0{listener}"
                add_volumes(root, heard(story, listener, repeat), subject, story, repeat, onset_s=4.0)
    return root


def prepared(
    root: Path, out: Path, split: Split | None = SPLIT, **targets: object
) -> tuple[Prepared, Shards]:
    done = prepare(root, out, PLAIN, targets=Targets(**targets), split=split)
    return done, open_shards(out)


def within(y: np.ndarray) -> np.ndarray:
    """(volumes within the story, voxels): they begin at 4 s, and the sound is 100 s long."""
    return y.reshape(24, VOLUMES).T[2:53]


def test_means_of_regions_are_written_cleaned(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 2)
    labels = np.random.default_rng(0).choice([0, 3, 4], SHAPE).astype(np.int16)
    path = save_labels(tmp_path / "atlas.nii.gz", labels)
    done, shards = prepared(root, tmp_path / "shards", parcellation=path)
    assert shards.card.subjects["sub-01"].targets == 2
    assert shards.card.targets["parcellation"] == [str(path)]
    assert str(path) in shards.card.inputs
    masker = NiftiLabelsMasker(path, standardize="zscore_sample", resampling_target=None)
    bold = next((root / "sub-02" / "func").glob("*alice*bold.nii.gz"))
    np.testing.assert_allclose(shards.bold("sub-02", "alice").y, masker.fit_transform(bold), atol=1e-4)
    again, _ = prepared(root, tmp_path / "shards", parcellation=path)
    assert (again.written, again.card) == (0, done.card)
    (tmp_path / "atlas.txt").write_text("3 three\n4 four\n")
    renamed, shards = prepared(root, tmp_path / "shards", parcellation=path, rois=("four",))
    assert renamed.written == 8 + 2
    assert list(shards.targets("sub-01")["name"]) == ["four"]


def test_a_bad_parcellation_leaves_nothing_behind(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1)
    path = save_labels(tmp_path / "atlas.nii.gz", np.ones((3, 4, 3), np.int16))
    with pytest.raises(DataError, match=r"atlas\.nii\.gz: 3 x 4 x 3 voxels"):
        prepare(root, tmp_path / "shards", PLAIN, targets=Targets(parcellation=path))
    assert not (tmp_path / "shards").exists()


def test_labels_of_another_surface_are_refused(tmp_path: Path) -> None:
    add_story(tmp_path / "recordings", "story1")
    add_surfaces(tmp_path / "recordings", noise(14, 5), noise(14, 4))
    paths = [save_surface_labels(tmp_path / f"{side}.label.gii", np.ones(6)) for side in "LR"]
    with pytest.raises(DataError, match=r"12 vertices on both sides, .* and its partner have 9"):
        prepare(tmp_path / "recordings", tmp_path / "shards", PLAIN, targets=Targets(parcellation=paths))
    assert not (tmp_path / "shards").exists()


def test_a_mask_is_the_same_in_either_section(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1)
    mask = save_labels(tmp_path / "mask.nii.gz", (np.arange(24) % 5 == 0).reshape(SHAPE).astype(np.uint8))
    done, _ = prepared(root, tmp_path / "shards", mask=mask)
    again = prepare(root, tmp_path / "shards", PLAIN.model_copy(update={"mask": mask}), split=SPLIT)
    assert again.written == 0
    assert again.card.digest == done.card.digest
    assert again.card.subjects["sub-01"].targets == 5


def test_tsnr_is_the_mean_over_runs_of_the_raw_recordings(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1)
    _, shards = prepared(root, tmp_path / "shards")
    raw = [heard(story, 1).reshape(24, VOLUMES).astype(float) for story in STORIES]
    expected = np.mean([y.mean(axis=1) / y.std(axis=1) for y in raw], axis=0)
    np.testing.assert_allclose(shards.targets("sub-01")["tsnr"], expected, rtol=1e-5)


def test_tsnr_of_shards_that_do_not_say_it_is_measured(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1)
    _, shards = prepared(root, tmp_path / "shards")
    before = shards.targets("sub-01")
    for path in (tmp_path / "shards" / "bold").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        metadata = dict(table.schema.metadata)
        metadata[b"wav2bold"] = metadata[b"wav2bold"].replace(b'"tsnr"', b'"none"')
        pq.write_table(table.replace_schema_metadata(metadata), path)
    (tmp_path / "shards" / "targets" / "subject=sub-01.parquet").unlink()
    done, shards = prepared(root, tmp_path / "shards")
    assert done.written == 1
    np.testing.assert_allclose(shards.targets("sub-01")["tsnr"], before["tsnr"], rtol=1e-6)


def test_repeats_tell_the_ceiling_also_where_they_choose(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 2, twice=("castle",))
    done, shards = prepared(root, tmp_path / "shards")
    table = shards.targets("sub-02")
    pair = [within(heard("castle", 2, repeat)) for repeat in (1, 2)]
    np.testing.assert_allclose(table["ceiling"], ceiling(repeat_correlation(pair), 1), atol=1e-3)
    assert set(table["ceiling_from"]) == {"repeats"}
    assert done.doubts == ()


def test_the_test_storys_repeats_tell_no_ceiling_unless_asked(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 2, twice=("dune",))
    done, shards = prepared(root, tmp_path / "shards")
    table = shards.targets("sub-01")
    assert table["ceiling"].isna().all()
    assert table["ceiling_from"].isna().all()
    assert done.doubts == (
        (
            "only dune, which tests, was heard more than once: there is no noise ceiling; set "
            "targets.ceiling_from_test: true in the study file to estimate it there, or test another story"
        ),
    )
    default, _ = prepared(root, tmp_path / "shards", split=None)  # the last in the alphabet tests
    assert (default.written, default.doubts) == (0, done.doubts)
    asked, shards = prepared(root, tmp_path / "shards", ceiling_from_test=True)
    pair = [within(heard("dune", 1, repeat)) for repeat in (1, 2)]
    best = ceiling(repeat_correlation(pair), 1)
    np.testing.assert_allclose(shards.targets("sub-01")["ceiling"], best, atol=1e-3)
    assert (asked.written, asked.doubts) == (2, ())
    other, shards = prepared(root, tmp_path / "shards", Split(validation=("dune",), test=("castle",)))
    assert other.written == 0  # the same ceiling, from a story that no longer tests
    np.testing.assert_allclose(shards.targets("sub-01")["ceiling"], best, atol=1e-3)


def test_both_tests_and_training_repeated_leaves_the_training_storys(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1, twice=("alice", "dune"))
    _, shards = prepared(root, tmp_path / "shards")
    pair = [within(heard("alice", 1, repeat)) for repeat in (1, 2)]
    best = ceiling(repeat_correlation(pair), 1)
    np.testing.assert_allclose(shards.targets("sub-01")["ceiling"], best, atol=1e-3)


def from_others(listener: int, stories: Sequence[str], listeners: int = 3) -> np.ndarray:
    """(24,) by textbook: solve r = s / sqrt(s + (1 - s) / others) for the share s of each story."""
    shares = []
    for story in stories:
        z = [within(heard(story, one)).astype(float) for one in range(1, listeners + 1)]
        z = [(y - y.mean(axis=0)) / y.std(axis=0) for y in z]
        own, rest = z[listener - 1], sum(y for number, y in enumerate(z, 1) if number != listener)
        r = np.array([np.corrcoef(own[:, v], rest[:, v])[0, 1] for v in range(24)])
        grid = np.linspace(0, 1, 200_001)
        curve = grid / np.sqrt(grid + (1 - grid) / (listeners - 1))
        shares.append(np.sign(r) * np.interp(np.abs(r), curve, grid))
    return np.sqrt(np.maximum(np.mean(shares, axis=0), 0))


def test_where_nothing_was_repeated_other_people_tell_it_on_training_stories(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings")
    done, shards = prepared(root, tmp_path / "shards")
    for listener in (1, 2, 3):
        table = shards.targets(f"sub-0{listener}")
        np.testing.assert_allclose(table["ceiling"], from_others(listener, ("alice", "bakery")), atol=2e-3)
        assert set(table["ceiling_from"]) == {"others"}
    assert shards.targets("sub-01")["ceiling"][:12].mean() == pytest.approx(np.sqrt(0.8), abs=0.05)
    again, _ = prepared(root, tmp_path / "shards")
    assert (again.written, again.card.digest) == (0, done.card.digest)
    asked, shards = prepared(root, tmp_path / "shards", ceiling_from_test=True)
    assert asked.written == 3
    np.testing.assert_allclose(shards.targets("sub-02")["ceiling"], from_others(2, STORIES), atol=2e-3)


def test_people_whose_volumes_lag_are_compared_at_equal_times(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 2)
    _, shards = prepared(root, tmp_path / "shards")
    together = shards.targets("sub-01")["ceiling"]
    later = np.roll(heard("alice", 2), 2, axis=-1)
    add_volumes(root, later, "sub-02", "alice", onset_s=8.0)
    _, shards = prepared(root, tmp_path / "shards")
    np.testing.assert_allclose(shards.targets("sub-01")["ceiling"], together, atol=5e-3)
    add_events(root, "sub-02_task-alice_run-1", "alice", 8.7)  # no clock in common: bakery alone tells
    _, shards = prepared(root, tmp_path / "shards")
    np.testing.assert_allclose(shards.targets("sub-01")["ceiling"], from_others(1, ("bakery",), 2), atol=2e-3)


def test_people_in_their_own_space_tell_each_other_nothing(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 2)
    for path in root.rglob("*space-MNI152NLin2009cAsym_*"):
        path.rename(path.with_name(path.name.replace("space-MNI152NLin2009cAsym", "space-T1w")))
    done, shards = prepared(root, tmp_path / "shards")
    assert shards.card.space == "T1w"
    assert shards.targets("sub-01")["ceiling"].isna().all()
    with pytest.raises(DataError) as caught:
        prepared(root, tmp_path / "shards", min_ceiling=0.3)
    assert str(caught.value) == (
        "targets.min_ceiling is 0.3: no story was heard twice, nor by two people in one space; leave it out"
    )
    assert done.card.digest == open_shards(tmp_path / "shards").card.digest


@pytest.mark.parametrize("twice", [("castle",), ()])
@pytest.mark.parametrize("averaged", [True, False])
def test_targets_are_kept_by_their_ceiling(tmp_path: Path, twice: tuple[str, ...], averaged: bool) -> None:
    root = record(tmp_path / "recordings", twice=twice)
    labels = (1 + np.arange(24) // 6).reshape(SHAPE).astype(np.int16)
    path = save_labels(tmp_path / "atlas.nii.gz", labels)
    more = {"parcellation": path} if averaged else {}
    whole, every = prepared(root, tmp_path / "all", **more)
    done, shards = prepared(root, tmp_path / "some", min_ceiling=0.6, **more)
    for subject in ("sub-01", "sub-03"):
        table, kept = every.targets(subject), shards.targets(subject)
        enough = (table["ceiling"] >= 0.6).to_numpy()
        assert 0 < enough.sum() < len(enough)
        expected = table[enough].reset_index(drop=True).drop(columns="target")
        assert kept.drop(columns="target").equals(expected)
        np.testing.assert_array_equal(
            shards.bold(subject, "bakery").y, every.bold(subject, "bakery").y[:, enough]
        )
        assert shards.card.subjects[subject].targets == enough.sum()
    assert done.written == whole.written
    assert done.card.digest != whole.card.digest
    again, _ = prepared(root, tmp_path / "some", min_ceiling=0.6, **more)
    assert (again.written, again.card) == (0, done.card)
    back, _ = prepared(root, tmp_path / "some", **more)
    assert back.card.digest == whole.card.digest


def test_a_lost_table_is_measured_anew(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 2)
    done, shards = prepared(root, tmp_path / "shards", min_ceiling=0.6)
    before = shards.targets("sub-01")
    (tmp_path / "shards" / "targets" / "subject=sub-01.parquet").unlink()
    again, shards = prepared(root, tmp_path / "shards", min_ceiling=0.6)
    assert shards.targets("sub-01").equals(before)
    assert again.card == done.card


def test_a_ceiling_that_no_target_reaches_is_refused(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1, twice=("castle",))
    with pytest.raises(DataError) as caught:
        prepared(root, tmp_path / "shards", min_ceiling=0.999)
    assert "sub-01: no target has a noise ceiling of 0.999; the highest is 0.9" in str(caught.value)
    add_volumes(root, heard("alice", 2), "sub-02", "alice", onset_s=4.0)
    with pytest.raises(DataError, match="sub-02: has no noise ceiling, since no story it heard tells one"):
        prepared(root, tmp_path / "shards", min_ceiling=0.5)


def test_a_ceiling_from_the_test_story_alone_keeps_nothing(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1, twice=("dune",))
    with pytest.raises(
        DataError, match=r"targets\.min_ceiling is 0\.5: only dune, which tests, .* set targets"
    ):
        prepared(root, tmp_path / "shards", min_ceiling=0.5)
    assert not (tmp_path / "shards").exists()


def test_what_is_odd_about_a_sound_is_told_each_time(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1)
    add_story(root, "alice", 15.0, seed=1)  # 20 s were heard, by the events file
    bakery = add_story(root, "bakery", 100.0)
    import soundfile

    sound, rate_hz = soundfile.read(bakery)
    sound[1600:1650] = 1.0
    soundfile.write(bakery, sound, rate_hz)
    for _ in range(2):
        done, _ = prepared(root, tmp_path / "shards")
        short, clipped = done.doubts
        assert short == (
            f"{root / 'stimuli' / 'alice.wav'}: is 15 s long, sub-01/alice heard 20 s of it by its events "
            "file; volumes after the sound's end are not used"
        )
        assert clipped == f"{bakery}: is clipped: over 10 samples in a row at full scale once at 0.1 s"


def test_a_silent_story_is_refused(tmp_path: Path) -> None:
    import soundfile

    root = record(tmp_path / "recordings", 1)
    soundfile.write(root / "stimuli" / "alice.wav", np.zeros(16_000 * 100), 16_000)
    with pytest.raises(DataError, match=r"alice\.wav: holds only silence"):
        prepared(root, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_both_ends_are_dropped_and_the_clock_stays(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1)
    prepare(root, tmp_path / "shards", PLAIN.model_copy(update={"drop_first": 3, "drop_last": 4}))
    bold = open_shards(tmp_path / "shards").bold("sub-01", "alice")
    np.testing.assert_array_equal(bold.t, np.arange(3, VOLUMES - 4))
    np.testing.assert_array_equal(bold.time_s, 2.0 * bold.t - 4.0)
    y = heard("alice", 1).reshape(24, VOLUMES).T[3:-4].astype(float)
    np.testing.assert_allclose(bold.y, (y - y.mean(axis=0)) / y.std(axis=0, ddof=1), atol=1e-3)
    tsnr = open_shards(tmp_path / "shards").targets("sub-01")["tsnr"]
    assert np.isfinite(tsnr).all()


def test_the_study_beside_the_shards_says_which_targets_and_which_story_tests(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1, twice=("dune",))
    out = tmp_path / "work" / "shards"
    first = steps.prepare(root, out, PLAIN)  # a new study tests on the last story, which tells no ceiling
    assert open_shards(out).targets("sub-01")["ceiling"].isna().all()
    assert "only dune, which tests" in first.doubts[0]
    begun = Study.load(out.parent / "study.yaml")
    assert begun.split == SPLIT
    mask = save_labels(out.parent / "mask.nii.gz", (np.arange(24) < 6).reshape(SHAPE).astype(np.uint8))
    begun.model_copy(
        update={
            "split": Split(validation=("dune",), test=("alice",)),
            "cleaning": PLAIN,
            "targets": Targets(mask=mask),
        }
    ).save(out.parent / "study.yaml")
    again = steps.prepare(root, out)
    table = open_shards(out).targets("sub-01")
    assert again.doubts == ()
    assert len(table) == 6
    pair = [within(heard("dune", 1, repeat))[:, :6] for repeat in (1, 2)]
    np.testing.assert_allclose(table["ceiling"], ceiling(repeat_correlation(pair), 1), atol=1e-3)


def test_the_command_tells_what_is_odd(tmp_path: Path) -> None:
    root = record(tmp_path / "recordings", 1, twice=("dune",))
    done = succeeds("prepare", root, "--out", tmp_path / "work" / "shards", run=here)
    assert "warning: only dune, which tests, was heard more than once: there is no noise ceiling" in done.err
    assert "1 subjects, 4 stories" in done.out
