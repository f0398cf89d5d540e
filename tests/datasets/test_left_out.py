"""Whatever is wrong with a recording, it is named with its cure, and all others are done.

One data set holds every case in a subject of its own, so that one `prepare` meets all of them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import soundfile
from recordings import add_events, add_story, add_surfaces, add_volumes, noise, save_surface
from stores import contents

from wav2bold import steps
from wav2bold.config import Cleaning
from wav2bold.datasets.prepare import Prepared, prepare
from wav2bold.datasets.shards import open_shards
from wav2bold.errors import DataError

pytestmark = pytest.mark.usefixtures("small_ray")
PLAIN = Cleaning(high_pass_s=None, detrend=False)
STORY = "story1"


@dataclass(frozen=True)
class Case:
    """make: adds a subject's recordings.  name: as the failure is called.  says: parts of its line."""

    what: str
    make: Callable[[Path, str], object]
    says: tuple[str, ...]
    name: str = "sub-{subject}_task-story1_run-1"


@dataclass(frozen=True)
class Fine:
    """make: adds a subject's recordings, which are no mistake.  dropped: targets that didn't vary."""

    what: str
    make: Callable[[Path, str], object]
    dropped: int = 0


def good(root: Path, subject: str, story: str = STORY) -> Path:
    return add_volumes(root, noise(3, 4, 2, 14, seed=7), f"sub-{subject}", story)


def volumes(y: np.ndarray, **options: float) -> Callable[[Path, str], object]:
    return lambda root, subject: add_volumes(root, y.astype(np.float32), f"sub-{subject}", **options)


def damaged(damage: Callable[[Path], object]) -> Callable[[Path, str], object]:
    """A good recording whose BOLD file is then damaged."""
    return lambda root, subject: damage(good(root, subject))


def cut(path: Path, share: float = 0.9) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def lost(path: Path) -> None:
    """As DataLad leaves what was not fetched."""
    path.unlink()
    path.symlink_to("../../.git/annex/objects/none")


def beside(suffix: str, content: str | bytes | None) -> Callable[[Path, str], object]:
    """A good recording whose sidecar or events file says something else; None removes it."""

    def make(root: Path, subject: str) -> None:
        path = good(root, subject)
        stem = path.name.removesuffix("_bold.nii.gz")
        if suffix == "_events.tsv":
            stem = stem.partition("_space-")[0]
        other = path.with_name(stem + suffix)
        if content is None:
            other.unlink()
        else:
            other.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def sound(save: Callable[[Path], object], story: str) -> Callable[[Path, str], object]:
    """A good recording of a story whose sound is saved in this way."""

    def make(root: Path, subject: str) -> None:
        save(add_story(root, story, seed=3 + sum(story.encode())))
        good(root, subject, story)

    return make


def again(rate_hz: int = 16_000, channels: int = 1, **options: str) -> Callable[[Path], object]:
    """The same sound with another rate, number of channels or sample format."""

    def save(path: Path) -> None:
        samples, _ = soundfile.read(path)
        repeated = np.resize(samples, 20 * rate_hz)
        soundfile.write(path, np.column_stack([repeated] * channels), rate_hz, **options)

    return save


def second(**other: object) -> Callable[[Path, str], object]:
    """Three recordings of a subject, the second unlike the others."""

    def make(root: Path, subject: str) -> None:
        for number in (1, 2, 3):
            good(root, subject, f"story{number}")
        path = good(root, subject, "story2")
        image = nib.load(path)
        y = np.asarray(image.dataobj)[: other.get("rows", 3)]  # type: ignore[misc]
        changed = nib.Nifti1Image(y, other.get("affine", image.affine), image.header)
        nib.save(changed, path)

    return make


def without_tr(root: Path, subject: str) -> None:
    path = add_volumes(root, noise(3, 4, 2, 14), f"sub-{subject}", header_tr_s=0.0)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text("{}")


def twice(root: Path, subject: str) -> None:
    path = good(root, subject)
    nib.save(nib.load(path), path.with_name(path.name.removesuffix(".gz")))


def some_silent() -> np.ndarray:
    y = noise(3, 4, 2, 14)
    y[1, 2, 0] = 7.0
    y[2, 3, 1, 5] = np.nan
    return y


MOVED = np.diag([2.0, 3.0, 4.0, 1.0])
NOT_READ = ("_bold.nii.gz: can't be read", ";")
STEM_2 = "sub-{subject}/story2"
CASES = [
    Case("volumes cut short", damaged(cut), NOT_READ, "sub-{subject}/story1"),
    Case("volumes cut within the header", damaged(lambda path: cut(path, 0.01)), ("_bold.nii.gz",)),
    Case(
        "text for volumes", damaged(lambda path: path.write_text("hello")), ("_bold.nii.gz", "can't be read")
    ),
    Case("an empty file", damaged(lambda path: path.write_bytes(b"")), ("_bold.nii.gz", "can't be read")),
    Case("a file that was not fetched", damaged(lost), ("_bold.nii.gz",)),
    Case("one volume alone", volumes(noise(3, 4, 2)), ("_bold.nii.gz", "4"), "sub-{subject}/story1"),
    Case("nothing varies", volumes(np.ones((3, 4, 2, 14))), ("no target varies",), "sub-{subject}/story1"),
    Case(
        "nothing is a number",
        volumes(np.full((3, 4, 2, 14), np.nan)),
        ("no target varies",),
        "sub-{subject}/story1",
    ),
    Case("another affine", second(affine=MOVED), ("story2", "one space"), STEM_2),
    Case("another number of voxels", second(rows=2), ("story2", "one space"), STEM_2),
    Case("header and sidecar differ", volumes(noise(3, 4, 2, 14), header_tr_s=1.5), ("2 s", "1.5 s")),
    Case(
        "a TR unlike the others",
        volumes(noise(3, 4, 2, 14), tr_s=1.5),
        ("1.5 s", "one TR"),
        "sub-{subject}/story1",
    ),
    Case("no TR anywhere", without_tr, ("no TR in its header", "RepetitionTime")),
    Case("a sidecar that is no JSON", beside("_bold.json", "{"), ("_bold.json: not JSON",)),
    Case(
        "a sidecar with a TR in words", beside("_bold.json", '{"RepetitionTime": "two"}'), ("not JSON with",)
    ),
    Case("a sidecar with a TR below 0", beside("_bold.json", '{"RepetitionTime": -2}'), ("-2 s",)),
    Case("no events file", beside("_events.tsv", None), ("no events file", "write sub-")),
    Case("an empty events file", beside("_events.tsv", ""), ("_events.tsv", "onset")),
    Case("events in binary", beside("_events.tsv", b"\xff\xfe\x00\x01"), ("_events.tsv", "onset")),
    Case("events without a story", beside("_events.tsv", "onset\tduration\n0\t20\n"), ("has the columns",)),
    Case(
        "events that name nothing", beside("_events.tsv", "onset\tstim_file\n0\tn/a\n"), ("names no story",)
    ),
    Case(
        "a sound that is absent",
        beside("_events.tsv", "onset\tstim_file\n0\tgone.wav\n"),
        ("gone.wav", "stimuli"),
    ),
    Case(
        "an onset in words",
        beside("_events.tsv", "onset\tstim_file\nsoon\tstory1.wav\n"),
        ("soon is no number",),
    ),
    Case(
        "an onset beyond the scan",
        volumes(noise(3, 4, 2, 14), onset_s=33.0),
        ("ends at 28 s", "begins at 33 s"),
        "sub-{subject}/story1",
    ),
    Case(
        "text for sound",
        sound(lambda path: path.write_text("hello"), "words"),
        ("words.wav: not audio",),
        "words",
    ),
    Case(
        "an empty sound file", sound(lambda path: path.write_bytes(b""), "hollow"), ("hollow.wav",), "hollow"
    ),
    Case(
        "a sound of no length",
        sound(lambda path: soundfile.write(path, [], 16_000), "brief"),
        ("brief.wav",),
        "brief",
    ),
    Case(
        "a silent sound",
        sound(lambda path: soundfile.write(path, np.zeros(16_000), 16_000), "mute"),
        ("mute.wav", "only silence"),
        "mute",
    ),
    Case("two files of one recording", twice, ("also at", "keep one of the two")),
]
FINE = [
    Fine("constant and missing voxels", volumes(some_silent()), dropped=2),
    Fine("8-bit sound", sound(again(subtype="PCM_U8"), "eight")),
    Fine("24-bit sound", sound(again(subtype="PCM_24"), "deep")),
    Fine("sound in floats", sound(again(subtype="FLOAT"), "float")),
    Fine("stereo at 44.1 kHz", sound(again(44_100, 2), "stereo")),
    Fine("a name with spaces and accents", sound(lambda path: path, "été à la plage")),
    Fine("a story that is longer than its sound", sound(again(), "long")),
    Fine("just right", good),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Prepared]:
    """Recordings, shards, and what preparing them told."""
    root = tmp_path_factory.mktemp("all of them")
    recordings = root / "recordings"
    add_story(recordings, STORY)
    for number in (2, 3):
        add_story(recordings, f"story{number}", seed=number)
    for number, case in enumerate(FINE):
        case.make(recordings, f"fine{number}")
    add_events(recordings, "sub-fine6_task-long_run-1", "long", -4.0).write_text(
        "onset\tduration\tstim_file\n0\t27\tlong.wav\n"
    )
    fine = root / "fine"
    prepare(recordings, fine, PLAIN)
    for index, case in enumerate(CASES):
        case.make(recordings, f"case{index}")
    return recordings, fine, prepare(recordings, root / "shards", PLAIN, strict=False)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number].what)
def test_a_recording_that_cannot_be_used_is_named(number: int, made: tuple[Path, Path, Prepared]) -> None:
    case = CASES[number]
    name = case.name.format(subject=f"case{number}")
    failures = dict(made[2].failed)
    line = failures[name]
    for part in case.says:
        assert part in line, line
    assert "; " in line, f"names no way out: {line}"
    assert "\n" not in line


def test_nothing_else_is_named(made: tuple[Path, Path, Prepared]) -> None:
    assert len(made[2].failed) == len(CASES)


@pytest.mark.parametrize("number", range(len(FINE)), ids=lambda number: FINE[number].what)
def test_what_is_no_mistake_is_done(number: int, made: tuple[Path, Path, Prepared]) -> None:
    done = made[2]
    assert done.card.subjects[f"sub-fine{number}"].stories
    assert done.dropped[f"sub-fine{number}"] == FINE[number].dropped


def test_a_sound_shorter_than_its_story_is_doubted(made: tuple[Path, Path, Prepared]) -> None:
    (doubt,) = [one for one in made[2].doubts if "heard 27 s" in one]
    assert "long.wav: is 20 s long" in doubt


def test_the_other_recordings_are_what_they_are_without_them(made: tuple[Path, Path, Prepared]) -> None:
    _, fine, _ = made  # ceilings alone depend on who else there is
    alone, beside_others = contents(fine), contents(fine.with_name("shards"))
    for name in (one for one in alone if one.startswith(("bold/", "stimuli/"))):
        assert beside_others[name] == alone[name], name
    assert open_shards(fine.with_name("shards")).card.subjects["sub-case8"].stories == {
        "story1": 1,
        "story3": 1,
    }


def test_the_first_mistake_ends_a_strict_prepare(made: tuple[Path, Path, Prepared], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="; "):
        prepare(made[0], tmp_path / "shards", PLAIN)
    assert not (tmp_path / "shards").exists()


def test_a_repeat_takes_the_place_of_one_that_cannot_be_used(tmp_path: Path) -> None:
    root, out = tmp_path / "recordings", tmp_path / "shards"
    add_story(root, STORY)
    for run in (1, 2):
        add_volumes(root, noise(3, 4, 2, 14, seed=run), run=run)
    prepare(root, out, PLAIN)
    first, kept = open_shards(out).repeats("sub-01", STORY)
    cut(min(root.rglob("*run-1*_bold.nii.gz")))
    done = prepare(root, out, PLAIN, strict=False)
    assert [name for name, _ in done.failed] == ["sub-01/story1"]
    (only,) = open_shards(out).repeats("sub-01", STORY)
    np.testing.assert_array_equal(only.y, kept.y)
    assert not np.array_equal(only.y, first.y)


def test_nothing_is_written_where_nothing_can_be_used(tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    add_story(root, STORY)
    for subject in ("sub-01", "sub-02"):
        cut(add_volumes(root, noise(3, 4, 2, 14), subject))
    with pytest.raises(
        DataError, match=r"none of the recordings can be used:\n  sub-01/story1: .*\n  sub-02"
    ):
        prepare(root, tmp_path / "shards", PLAIN, strict=False)
    assert not (tmp_path / "shards").exists()


def test_too_few_stories_for_a_study_hide_no_failure(tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    for number in (1, 2, 3):
        add_story(root, f"story{number}", seed=number)
        good(root, "a", f"story{number}")
    (root / "stimuli" / "story2.wav").write_text("hello")
    done = steps.prepare(root, tmp_path / "shards", PLAIN)
    assert [name for name, _ in done.failed] == ["story2", "study.yaml"]
    assert "has 2 stories, a split needs 3" in done.failed[1][1]
    assert [*open_shards(tmp_path / "shards").card.stories] == ["story1", "story3"]


def test_surfaces_that_do_not_fit_each_other_are_named(tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    add_story(root, STORY)
    for subject in ("right", "unequal", "alone", "short", "told", "crossed"):
        left, right = add_surfaces(root, noise(14, 6), noise(14, 5, seed=1), f"sub-{subject}")
        if subject == "unequal":
            save_surface(right, noise(13, 5))
        if subject == "alone":
            right.unlink()
        if subject == "short":
            cut(left)
        if subject in ("told", "crossed"):
            sides = ("Left", "Right") if subject == "told" else ("Right", "Left")
            for path, size, side in zip((left, right), (6, 5), sides, strict=True):
                save_surface(path, noise(14, size), side)
    done = prepare(root, tmp_path / "shards", PLAIN, strict=False)
    assert [*done.card.subjects] == ["sub-right", "sub-told"]
    told = dict(done.failed)
    assert len(told) == 4
    assert "hemi-L_space-fsaverage5_bold.func.gii: says that it is CortexRight" in told["sub-crossed/story1"]
    assert "13" in told["sub-unequal/story1"]
    assert "14" in told["sub-unequal/story1"]
    assert "has no partner" in told["sub-alone_task-story1_run-1"]
    assert "can't be read" in next(line for name, line in told.items() if "sub-short" in name)


def test_lines_of_a_manifest_with_mistakes_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "recordings"
    audio = add_story(root, STORY).relative_to(root)
    one, two = (good(root, subject).relative_to(root) for subject in ("a", "b"))
    rows = [
        ("sub-a", STORY, one, audio, 2.0, 0),
        ("sub-a", STORY, one, audio, 2.0, 0),
        ("sub-b", STORY, two, audio, "two", 0),
        ("sub-c", STORY, "none.nii.gz", audio, 2.0, 0),
    ]
    manifest = root / "runs.tsv"
    lines = ["subject\tstory\tbold\taudio\ttr\tonset_s", *("\t".join(map(str, row)) for row in rows)]
    manifest.write_text("\n".join(lines) + "\n")
    done = prepare(manifest, tmp_path / "shards", PLAIN, strict=False)
    assert [*done.card.subjects] == ["sub-a"]
    assert [name for name, _ in done.failed] == ["line 3", "line 4", "line 5"]
    said = " ".join(line for _, line in done.failed)
    for part in ("is the recording of line 2", "tr two is no number", "none.nii.gz is no file"):
        assert part in said
    assert json.dumps(said).count("runs.tsv: line") == 3
