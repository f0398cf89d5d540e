"""The embedded dataset: what a scanner and a lab would write, with a truth that tests know."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nilearn.glm.first_level import glover_hrf
from numpy.typing import NDArray
from transformers import Wav2Vec2Model

from wav2bold.config import (
    Configuration,
    LogRange,
    Search,
    Simulation,
    Space,
    Split,
    Study,
)
from wav2bold.datasets.noise import resting_noise
from wav2bold.datasets.spaces import Patch, fsaverage5_patch, mni_patch
from wav2bold.datasets.speech import joined, synthesised
from wav2bold.datasets.teacher import extractor, hear, make_teacher, perturbed
from wav2bold.datasets.write_bids import write_run, write_study_files
from wav2bold.errors import DataError
from wav2bold.options import write_whole
from wav2bold.progress import Progress, silent

AR_COEFFICIENT = 0.4
ONSET_TRS = 6
"""Volumes of rest before the story."""
REST_TRS = 4
"""Volumes of rest after it."""
ROOM_TONE_DB = -32.0
"""Noise under the speech, against its level: digital silence would make all pauses one state."""
HRF_S = 32.0


@dataclass(frozen=True)
class Truth:
    """What is known of a simulated dataset, also written to `truth/truth.json`.

    subjects, null_subjects: ids; the latter are pure noise.  noise, speech: where they came from.
    options: the `Simulation` it was made with: history, ceiling, what was perturbed.
    """

    subjects: tuple[str, ...]
    null_subjects: tuple[str, ...]
    stories: tuple[str, ...]
    noise: str
    speech: str
    options: dict[str, Any]


def simulate(
    out: Path | str,
    options: Simulation,
    speech: Path | None = None,
    noise: Path | None = None,
    progress: Progress = silent,
) -> Truth:
    """Write a dataset as a scanner and a lab would, into the new folder `out`.

    A teacher encoder hears each story; its hidden states, convolved with the haemodynamic response
    and mixed per subject, plus noise, are the BOLD. The encoder to refine, in `out/encoder`, is the
    teacher with parts perturbed. The teacher and what else is known are in `out/truth`.

    speech: a folder of recordings to join into stories; else stories are synthesised and cached.
    noise: a file of real resting-state BOLD to use in place of AR(1) noise and drift.
    Raises DataError if `out` holds anything already or speech and noise don't suffice.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is not empty", "choose another folder or remove it")
    seconds = options.minutes * 60
    if speech is None:
        clean = synthesised(
            options.stories, seconds, speech_cache(), lambda name: progress(f"speaking {name}", 0, 0)
        )
    else:
        clean = joined(speech, options.stories, seconds, options.seed)
    audio = {
        story: with_room_tone(sound, np.random.default_rng([options.seed, 1, number]))
        for number, (story, sound) in enumerate(clean.items())
    }
    patch = (fsaverage5_patch if options.space == "fsaverage5" else mni_patch)(
        options.hearing_targets, options.silent_targets
    )
    if noise is not None:
        resting_noise(noise, _volumes(options), patch.size, options.seed)  # its mistakes come before any file

    place = out.resolve()  # "." has no name of its own
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        truth = _write(partial, options, audio, patch, speech, noise, progress)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if place.exists():
        place.rmdir()
    partial.rename(place)
    return truth


def brain_signal(heard: NDArray[np.float32], tr_s: float, mixing: NDArray[np.float64]) -> NDArray[np.float64]:
    """What hearing evokes, unit variance per target: (T, V).

    heard: (T, n, D) last hidden states per TR, oldest first.  mixing: (D, V).
    The n TRs are z-scored and summed with Glover's haemodynamic response.
    """
    history = heard.shape[1]
    response = glover_hrf(tr_s, oversampling=1, time_length=HRF_S)[:history]
    standard = (heard - heard.mean(0)) / heard.std(0)
    evoked = np.einsum("tnd,n->td", standard[:, ::-1], response) @ mixing
    return np.asarray((evoked - evoked.mean(0)) / evoked.std(0))


def scanner_noise(volumes: int, targets: int, random: np.random.Generator) -> NDArray[np.float64]:
    """AR(1) noise of unit variance, (volumes, targets)."""
    noise = random.standard_normal((volumes + 50, targets))
    for t in range(1, len(noise)):
        noise[t] = AR_COEFFICIENT * noise[t - 1] + np.sqrt(1 - AR_COEFFICIENT**2) * noise[t]
    return np.asarray(noise[50:])


def slow_drift(volumes: int, targets: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A scanner's drift: a line and two slow waves, as large as the signal, (volumes, targets)."""
    time = np.linspace(0, 1, volumes)[:, None]
    waves = np.hstack([time, np.cos(np.pi * time), np.cos(2 * np.pi * time)])
    return np.asarray(waves @ random.standard_normal((3, targets)))


def with_room_tone(sound: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """The sound with faint noise under it, (samples,)."""
    level = np.sqrt(np.mean(sound**2)) * 10 ** (ROOM_TONE_DB / 20)
    return np.asarray(sound + level * random.standard_normal(len(sound)), np.float32)


def speech_cache() -> Path:
    """Where synthesised stories are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wav2bold" / "speech"


def _write(
    root: Path,
    options: Simulation,
    audio: dict[str, NDArray[np.float32]],
    patch: Patch,
    speech: Path | None,
    noise: Path | None,
    progress: Progress,
) -> Truth:
    """All files of the dataset, into an existing folder that nobody reads yet."""
    truth = Truth(
        subjects=tuple(f"sub-{number + 1:03d}" for number in range(options.subjects)),
        null_subjects=tuple(f"sub-null{number + 1}" for number in range(options.null_subjects)),
        stories=tuple(audio),
        noise="AR(1) and drift"
        if noise is None
        else f"semi-synthetic: real resting-state BOLD, {noise.name}",
        speech="synthesised" if speech is None else f"recorded, {speech.name}",
        options=options.model_dump(mode="json"),
    )
    people = (*truth.subjects, *truth.null_subjects)
    name = (
        "Simulated listeners" if noise is None else "Semi-synthetic listeners: simulated signal, real noise"
    )
    write_study_files(root, people, audio, name)
    teacher = make_teacher(next(iter(audio.values())), options.seed)
    student = perturbed(teacher, options.perturbed, options.perturbed_layers, options.seed + 1)
    for folder, model in (("truth/teacher", teacher), ("encoder", student)):
        model.save_pretrained(root / folder)
        extractor().save_pretrained(root / folder)
    write_whole(root / "truth" / "truth.json", json.dumps(asdict(truth), indent=1))
    _suggested_study(truth).save(
        root / "study.yaml", "What this dataset recommends; `prepare` begins from it."
    )

    *_, repeated, _ = audio
    total = len(people) * (len(audio) + 1)
    done = 0
    for story_number, (story, sound) in enumerate(audio.items()):
        heard = _heard(teacher, sound, options)
        for person_number, subject in enumerate(people):
            mixing = np.random.default_rng([options.seed, 2, person_number]).standard_normal(
                (heard.shape[2], patch.size)
            )
            signal = brain_signal(heard, options.tr_s, mixing)
            share = np.where(patch.hearing & (subject in truth.subjects), options.ceiling, 0.0)
            for repeat in (1, 2) if story == repeated else (None,):
                random = np.random.default_rng([options.seed, 3, person_number, story_number, repeat or 0])
                y = _recorded(signal, share, random, noise, options)
                write_run(
                    root,
                    subject,
                    story,
                    repeat,
                    patch,
                    y,
                    options.tr_s,
                    ONSET_TRS * options.tr_s,
                    options.minutes * 60,
                )
                done += 1
                progress(f"scanning {subject} hearing {story}", done, total)
    return truth


def _heard(teacher: Wav2Vec2Model, sound: NDArray[np.float32], options: Simulation) -> NDArray[np.float32]:
    """Hidden states per TR at every volume with a complete history, (volumes, n, D)."""
    last = _story_trs(options)
    times_s = np.arange(options.history, last + 1, dtype=np.float64) * options.tr_s
    return hear(teacher, sound, times_s, options.tr_s, options.history)


def _recorded(
    signal: NDArray[np.float64],
    share: NDArray[np.float64],
    random: np.random.Generator,
    noise: Path | None,
    options: Simulation,
) -> NDArray[np.float32]:
    """What the scanner writes, (volumes, targets): signal and noise on a baseline of 1000.

    The signal begins with the first complete history.
    """
    volumes, targets = _volumes(options), signal.shape[1]
    evoked = np.zeros((volumes, targets))
    first = ONSET_TRS + options.history
    evoked[first : first + len(signal)] = signal
    if noise is None:
        rest, drift = scanner_noise(volumes, targets, random), slow_drift(volumes, targets, random)
    else:
        rest = resting_noise(noise, volumes, targets, int(random.integers(2**31)))
        drift = np.zeros_like(rest)
    return np.asarray(1000 + 10 * (share * evoked + np.sqrt(1 - share**2) * rest + drift), np.float32)


def _volumes(options: Simulation) -> int:
    """Volumes of one scan: rest, story, rest."""
    return ONSET_TRS + _story_trs(options) + 1 + REST_TRS


def _story_trs(options: Simulation) -> int:
    """Whole TRs in a story."""
    return int(options.minutes * 60 / options.tr_s + 1e-9)


def _suggested_study(truth: Truth) -> Study:
    """The study file that comes with the dataset: the last story tests, the one before it chooses."""
    *_, validation, test = truth.stories
    return Study(
        name="simulated",
        shards=Path("shards"),
        encoder="encoder",
        split=Split(validation=(validation,), test=(test,)),
        subjects=truth.subjects,
        seed=truth.options["seed"],
        # measured by benchmarks/recovery.py: AdamW at 3e-3 recovers half as much
        configuration=Configuration(
            optimiser="muon", encoder_lr=0.02, head_lr=1e-3, epochs=8, input_noise=0.3
        ),
        search=Search(
            space=Space(encoder_lr=LogRange(low=0.01, high=0.04), head_lr=LogRange(low=3e-4, high=3e-3))
        ),
    )
