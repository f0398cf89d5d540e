"""Speaker verification: whether two recordings have one speaker (VoxCeleb1)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.errors import DataError
from wav2bold.trainables.superb.clips import Clip, file_samples, samples_of
from wav2bold.trainables.superb.draws import Draws
from wav2bold.trainables.superb.learning import Course
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.utterances import Fold
from wav2bold.trainables.superb.verifying import VerifyingLesson
from wav2bold.trainables.superb.voxceleb import FOLDER, META, recording, speaker_of

PUBLISHED = Published(
    "equal error rate",
    updates=200_000,
    every=10_000,
    batch=50,
    higher_is_better=False,
    statistic="eer",
    by_test="learning rate and checkpoint",
)
LIST = "veri_test.txt"
CURE = f"download {META}/{LIST} there"
WAVS_CURE = "unpack VoxCeleb1's dev set there"
NEEDS = {f"{FOLDER}/{LIST}": CURE, f"{FOLDER}/dev/wav": WAVS_CURE}
CROP_SAMPLES = 8 * SAMPLE_RATE_HZ
LEAST_SAMPLES = 2 * SAMPLE_RATE_HZ
"""What is as short does not train, as in the reference. VoxCeleb1's shortest has 4 s."""
HELD_OUT = 30
"""Of so many training speakers one chooses: 40 of 1,211, as many as test."""
Trial = tuple[int, str, str]


def read(data: Path, options: Options) -> tuple[Course, VerifyingLesson]:
    """Trials of the published list, and the speakers of dev/wav. Raises DataError where they aren't there.

    Some of those speakers are held out, and trials of theirs choose. As published, all of them train and the
    test trials choose.
    """
    root = data / FOLDER
    tested = _list(root / LIST)
    theirs = {speaker_of(name) for _, *names in tested for name in names}
    paths = {
        path.relative_to(root / "dev" / "wav").as_posix(): path
        for path in sorted((root / "dev" / "wav").glob("*/*/*.wav"))
        if path.parts[-3] not in theirs
    }
    held = set() if options.as_published else held_out({speaker_of(name) for name in paths})
    chosen = dev_trials([name for name in paths if speaker_of(name) in held], options.seed)
    train = [
        name
        for name, path in paths.items()
        if speaker_of(name) not in held and file_samples(path) > LEAST_SAMPLES
    ]
    known = {name: place for place, name in enumerate(sorted(set(map(speaker_of, train))))}
    parts = [train, _named(chosen), _named(tested)]
    if len(known) < 2 or not (chosen or options.as_published):
        raise DataError(f"{root / 'dev' / 'wav'}: too few speakers", WAVS_CURE)
    names = [name for part in parts for name in part]
    row = {name: place for place, name in enumerate(names)}
    clips = tuple(Clip(paths.get(name) or recording(root, name)) for name in names)
    for clip in clips[len(train) :]:
        if samples_of(clip) <= LEAST_SAMPLES:
            raise DataError(f"{clip.path}: no more than 2 s", "unpack all of VoxCeleb1 there again")
    fold = Fold(*np.split(np.arange(len(names)), np.cumsum([len(part) for part in parts[:2]])))
    if options.as_published:
        fold = Fold(fold.train, fold.test, fold.test)
    updates, every = options.length(PUBLISHED)
    lesson = VerifyingLesson(
        speaker=np.array([known.get(speaker_of(name), -1) for name in names], np.int64),
        speakers=len(known),
        trials=np.array([(same, row[one], row[other]) for same, one, other in (*chosen, *tested)], np.int64),
        updates=updates,
        every=every,
    )
    course = Course(
        root=root,
        clips=clips,
        fold=fold,
        unit=np.array([[speaker_of(one), speaker_of(other)] for _, one, other in tested], np.str_),
        batches=Draws(fold.train, PUBLISHED.batch, options.seed),
        cropped=crop,
    )
    return course, lesson


def crop(clip: Clip, random: np.random.Generator) -> Clip:
    """8 s of a file, from anywhere; all of one that is shorter."""
    room = samples_of(clip) - CROP_SAMPLES
    if room <= 0:
        return clip
    start = int(random.integers(room + 1))
    return Clip(clip.path, start, start + CROP_SAMPLES)


def held_out(speakers: set[str]) -> set[str]:
    """Training speakers whose trials choose: those first by the SHA-1 of their names, whatever the seed."""
    ordered = sorted(speakers, key=lambda name: hashlib.sha1(name.encode(), usedforsecurity=False).digest())
    return set(ordered[: max(2, round(len(speakers) / HELD_OUT))])


def dev_trials(names: Sequence[str], seed: int) -> list[Trial]:
    """Two trials of each recording: with one of another video of its speaker, and with another speaker's."""
    random = np.random.default_rng(seed)
    speaker = np.array([speaker_of(name) for name in names])
    video = np.array([name.rpartition("/")[0] for name in names])
    found = []
    for place, name in enumerate(names):
        own = speaker == speaker[place]
        for same, others in ((1, own & (video != video[place])), (0, ~own)):
            if others.any():
                found.append((same, name, names[random.choice(np.flatnonzero(others))]))
    return found


def _named(trials: Sequence[Trial]) -> list[str]:
    """All recordings of trials, each once."""
    return sorted({name for _, one, other in trials for name in (one, other)})


def _list(path: Path) -> list[Trial]:
    """Trials as published: `1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav`."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        same, *names = line.split()
        if same not in {"0", "1"} or len(names) != 2 or any(name.count("/") != 2 for name in names):
            raise DataError(f"{path}: line {number} is no trial: {line[:60]}", CURE)
        found.append((int(same), names[0], names[1]))
    if {same for same, *_ in found} != {0, 1}:
        raise DataError(f"{path}: needs trials of one speaker and of two", CURE)
    return found
