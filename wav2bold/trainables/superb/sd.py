"""Speaker diarization: who of two speaks when (Libri2Mix, in Kaldi's folders)."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wav2bold.datasets.audio import SAMPLE_RATE_HZ
from wav2bold.errors import DataError
from wav2bold.trainables.superb.clips import Clip, file_samples
from wav2bold.trainables.superb.diarizing import FRAME_SAMPLES, DiarizingLesson
from wav2bold.trainables.superb.draws import Draws
from wav2bold.trainables.superb.kaldi import SPEAKERS, Recording, read_recordings
from wav2bold.trainables.superb.learning import Course
from wav2bold.trainables.superb.protocol import Options, Published
from wav2bold.trainables.superb.utterances import Fold

PUBLISHED = Published(
    "diarization error rate",
    updates=30_000,
    every=500,
    higher_is_better=False,
    by_test="learning rate, threshold and median filter",
    settings=("threshold", "median"),
)
FOLDER = "Libri2Mix"
KALDI = f"{FOLDER}/diarization"
PARTS = ("train", "dev", "test")
CURE = (
    "make it with https://github.com/s3prl/LibriMix: scripts/prepare_diarization.py "
    f"--target_dir {KALDI} --source_dir {FOLDER}/wav16k/max/metadata"
)
FILES = {"train": ("wav.scp", "segments", "utt2spk"), "dev": ("wav.scp", "rttm"), "test": ("wav.scp", "rttm")}
NEEDS = {f"{KALDI}/{part}/{name}": CURE for part, names in FILES.items() for name in names}
CHUNK_FRAMES = 2000
LEAST_FRAMES = 5
"""A shorter rest of a recording is left out: in less than two frames' time an encoder hears nothing."""


def read(data: Path, options: Options) -> tuple[Course, DiarizingLesson]:
    """Recordings of the three folders, in chunks. Raises DataError where they or their turns aren't there."""
    recordings, clips, parts = list[Recording](), list[Clip](), list[int]()
    numbers, labels = list[int](), list[Tensor]()
    for place, part in enumerate(PARTS):
        own = read_recordings(data / KALDI / part, data, CURE, scored=part != "train")
        if not own:
            raise DataError(f"{data / KALDI / part / 'wav.scp'}: no recordings", CURE)
        for one in own:
            for first, stop in chunks_of(file_samples(one.path) // FRAME_SAMPLES):
                clips.append(Clip(one.path, first * FRAME_SAMPLES, stop * FRAME_SAMPLES))
                labels.append(labels_of(one, first, stop))
                numbers.append(len(recordings))
                parts.append(place)
            recordings.append(one)
    fold = Fold(*(np.flatnonzero(np.array(parts) == place) for place in range(len(PARTS))))
    updates, every = options.length(PUBLISHED)
    recording = np.array(numbers, np.int64)
    tested = dict.fromkeys(recording[fold.test].tolist())
    lesson = DiarizingLesson(tuple(recordings), recording, tuple(labels), updates, every)
    course = Course(
        root=Path(os.path.commonpath([clip.path.parent for clip in clips])),
        clips=tuple(clips),
        fold=fold,
        unit=np.array([recordings[number].name for number in tested], np.str_),
        batches=Draws(fold.train, PUBLISHED.batch, options.seed),
        by_test=options.as_published,
    )
    return course, lesson


def chunks_of(frames: int) -> list[tuple[int, int]]:
    """First frame and end of each stretch of CHUNK_FRAMES, and of what is left."""
    starts = range(0, frames, CHUNK_FRAMES)
    found = [(start, min(start + CHUNK_FRAMES, frames)) for start in starts]
    return [(start, stop) for start, stop in found if not start or stop - start >= LEAST_FRAMES]


def labels_of(recording: Recording, first: int, stop: int) -> Tensor:
    """Who speaks in each frame of a stretch, (F, 2)."""
    labels = torch.zeros(stop - first, SPEAKERS)
    for turn in recording.turns:
        start, end = (
            min(max(round(second * SAMPLE_RATE_HZ / FRAME_SAMPLES) - first, 0), stop - first)
            for second in (turn.start_s, turn.stop_s)
        )
        labels[start:end, turn.speaker] = 1
    return labels
