"""Whatever is wrong with a recording, it is named with its cure, and all others are done.

One data set of volumes and one of surfaces hold every case in a subject of its own, so that one `prepare`
meets all of them. In one by itself, each ends a strict `prepare`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import soundfile
from commands import here
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
VOLUMES, SURFACES = "volumes", "surfaces"


@dataclass(frozen=True)
class Case:
    """make: adds a subject's recordings.  name: as the failure is called.  says: parts of its line.

    kind: of the data set that it is added to, since one is in one space.
    """

    what: str
    make: Callable[[Path, str], object]
    says: tuple[str, ...]
    name: str = "sub-{subject}_task-story1_run-1"
    kind: str = VOLUMES


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


def surfaces(
    change: Callable[[Path, Path], object] = lambda left, right: None,
) -> Callable[[Path, str], object]:
    """A good recording on surfaces, which is then changed."""

    def make(root: Path, subject: str) -> None:
        change(*add_surfaces(root, noise(14, 6), noise(14, 5, seed=1), f"sub-{subject}"))

    return make


def says_cortex(left: str, right: str, *, in_array: bool = False) -> Callable[[Path, Path], object]:
    """Hemispheres in the files' own metadata: of the whole file, or of its first array."""

    def change(*pair: Path) -> None:
        for path, cortex in zip(pair, (left, right), strict=True):
            image = nib.load(path)
            told = image.darrays[0].meta if in_array else image.meta
            told["AnatomicalStructurePrimary"] = cortex
            nib.save(image, path)

    return change


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


def other_surface(root: Path, subject: str) -> None:
    for number in (1, 2, 3):
        right = noise(14, 4 if number == 2 else 5, seed=1)
        add_surfaces(root, noise(14, 6), right, f"sub-{subject}", f"story{number}")


def three_stories(root: Path, subject: str) -> None:
    for number in (1, 2, 3):
        add_surfaces(root, noise(14, 6), noise(14, 5, seed=number), f"sub-{subject}", f"story{number}")


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
    Case(
        "hemispheres of different length",
        surfaces(lambda left, right: save_surface(right, noise(13, 5))),
        ("hemi-L", "14 volumes", "hemi-R", "has 13", "both hemispheres"),
        "sub-{subject}/story1",
        SURFACES,
    ),
    Case(
        "one hemisphere",
        surfaces(lambda left, right: right.unlink()),
        ("hemi-L", "has no partner", "hemi-R"),
        kind=SURFACES,
    ),
    Case(
        "a surface cut short",
        surfaces(lambda left, right: cut(left)),
        ("hemi-L", "can't be read", "fetch it again"),
        "sub-{subject}/story1",
        SURFACES,
    ),
    Case(
        "a right surface of fewer vertices than in the subject's other recordings",
        other_surface,
        ("story2", "10 vertices", "11 vertices", "one space"),
        STEM_2,
        SURFACES,
    ),
    Case(
        "exchanged hemispheres",
        surfaces(says_cortex("CortexRight", "CortexLeft")),
        ("hemi-L", "given as the left hemisphere", "says CortexRight", "exchange the names"),
        "sub-{subject}/story1",
        SURFACES,
    ),
    Case(
        "two left hemispheres",
        surfaces(says_cortex("CortexLeft", "CortexLeft", in_array=True)),
        ("hemi-R", "given as the right hemisphere", "says CortexLeft"),
        "sub-{subject}/story1",
        SURFACES,
    ),
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
FINE_SURFACES = [
    Fine("surfaces of three stories", three_stories),
    Fine("surfaces that say which they are", surfaces(says_cortex("CortexLeft", "CortexRight"))),
    Fine("surfaces whose arrays say it", surfaces(says_cortex("CortexLeft", "CortexRight", in_array=True))),
]
ALL_FINE = {VOLUMES: FINE, SURFACES: FINE_SURFACES}


Made = dict[str, tuple[Path, Path, Prepared]]
"""Of each kind: recordings, shards of the fine ones alone, and what preparing all of them told."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("all of them, à la fois")
    done = {}
    for kind, fine in ALL_FINE.items():
        recordings = root / kind / "recordings"
        for number in (1, 2, 3):
            add_story(recordings, f"story{number}", seed=number)
        for number, one in enumerate(fine):
            one.make(recordings, f"fine{number}")
        if kind == VOLUMES:
            add_events(recordings, "sub-fine6_task-long_run-1", "long", -4.0).write_text(
                "onset\tduration\tstim_file\n0\t27\tlong.wav\n"
            )
        alone = root / kind / "fine"
        prepare(recordings, alone, PLAIN)
        for index, case in enumerate(CASES):
            if case.kind == kind:
                case.make(recordings, f"case{index}")
        done[kind] = recordings, alone, prepare(recordings, root / kind / "shards", PLAIN, strict=False)
    return done


def check(line: str, case: Case) -> None:
    for part in case.says:
        assert part in line, line
    assert "; " in line, f"names no way out: {line}"
    assert "\n" not in line


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number].what)
def test_a_recording_that_cannot_be_used_is_named(number: int, made: Made) -> None:
    case = CASES[number]
    failures = dict(made[case.kind][2].failed)
    check(failures[case.name.format(subject=f"case{number}")], case)


@pytest.mark.parametrize("kind", [VOLUMES, SURFACES])
def test_nothing_else_is_named(kind: str, made: Made) -> None:
    assert len(made[kind][2].failed) == sum(case.kind == kind for case in CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number].what)
def test_each_ends_a_strict_prepare_that_then_changes_nothing(number: int, tmp_path: Path) -> None:
    case, recordings = CASES[number], tmp_path / "recordings"
    for story in (1, 2, 3):
        add_story(recordings, f"story{story}", seed=story)
    for subject in ("fine0", "fine1", "fine2", "fine3"):  # so many that a TR of theirs is usual
        (good if case.kind == VOLUMES else surfaces())(recordings, subject)
    case.make(recordings, f"case{number}")
    before = contents(tmp_path)
    done = here("prepare", recordings, "--out", tmp_path / "shards", "--strict")
    assert done.code == 2, done.err
    (line,) = done.errors
    check(line, case)
    assert f"case{number}" in line or f"stimuli/{case.name}.wav" in line
    assert contents(tmp_path) == before
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("kind", [VOLUMES, SURFACES])
def test_the_command_lists_them_all_at_the_end(kind: str, made: Made) -> None:
    recordings, _, done = made[kind]
    command = here("prepare", recordings, "--out", recordings.with_name("by command"))
    assert command.code == 1
    lines = command.err.splitlines()
    heading = f"{len(done.failed)} failed, the others are done:"
    assert lines[lines.index(heading) + 1 :] == [f"  {name}: {why}" for name, why in done.failed]


@pytest.mark.parametrize(
    ("kind", "number"),
    [(kind, number) for kind, fine in ALL_FINE.items() for number in range(len(fine))],
    ids=[one.what for fine in ALL_FINE.values() for one in fine],
)
def test_what_is_no_mistake_is_done(kind: str, number: int, made: Made) -> None:
    done, one = made[kind][2], ALL_FINE[kind][number]
    assert done.card.subjects[f"sub-fine{number}"].stories
    assert done.dropped[f"sub-fine{number}"] == one.dropped


def test_a_sound_shorter_than_its_story_is_doubted(made: Made) -> None:
    (doubt,) = [one for one in made[VOLUMES][2].doubts if "heard 27 s" in one]
    assert "long.wav: is 20 s long" in doubt


@pytest.mark.parametrize("kind", [VOLUMES, SURFACES])
def test_the_other_recordings_are_what_they_are_without_them(kind: str, made: Made) -> None:
    _, fine, _ = made[kind]  # ceilings alone depend on who else there is
    alone, beside_others = contents(fine), contents(fine.with_name("shards"))
    for name in (one for one in alone if one.startswith(("bold/", "stimuli/"))):
        assert beside_others[name] == alone[name], name
    for number, case in enumerate(CASES):
        if case.name == STEM_2 and case.kind == kind:
            stories = open_shards(fine.with_name("shards")).card.subjects[f"sub-case{number}"].stories
            assert stories == {"story1": 1, "story3": 1}


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
