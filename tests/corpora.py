"""Small trees in the layouts of SUPERB's data sets, of real prompts said again in other ways.

Every clip is a recording of a person, read a little faster or slower and louder or softer, with noise below
it: a published data set has many takes of a word, and packages bring one.
"""

import csv
import functools
import gzip
import os
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from real_data import UnavailableError, asterisk_prompts
from small_encoders import save_small

from wav2bold.datasets.speech import _read_g722

RATE_HZ = 16_000
DEV_SPEAKERS = (
    "a69b9b3e",
    "439c84f4",
    "409c962a",
    "dbaf8fc6",
    "a6d586b7",
    "0e17f595",
    "ff2b842e",
    "7fd25f7c",
)
DEV_SPEAKERS += (
    "3cc595de",
    "591d32f3",
    "52bfbce8",
    "471a0925",
    "48bfde8e",
    "6d818f6c",
    "6c88cf25",
    "8b775397",
)
TEST_SPEAKERS = (
    "bb05582b",
    "97f4c236",
    "f2e59fea",
    "fdb5155e",
    "dc75148d",
    "3f170018",
    "18f8afd5",
    "e1469561",
)
TEST_SPEAKERS += (
    "5c8af87a",
    "aa48c94a",
    "837a0f64",
    "e49428d9",
    "c7124b73",
    "9d4bab4f",
    "f0ae7203",
    "aa80f517",
)
"""Speakers that Speech Commands' own validation_list.txt and testing_list.txt begin with."""


def prompts(language: str = "en") -> Path:
    """Folder of a language's prompts; skips the test where they can't be had."""
    try:
        root = asterisk_prompts(language)
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"can't be fetched: {error}")
    return next(path.parent.parent for path in sorted(root.rglob("digits/1.g722")))


@functools.cache
def prompt(name: str, language: str = "en") -> NDArray[np.float32]:
    """One prompt by its path without suffix: digits/1."""
    return _read_g722(prompts(language) / f"{name}.g722")


def take(sound: NDArray[np.float32], seed: int, spread: float = 0.05) -> NDArray[np.float32]:
    """A sound said again: by up to `spread` faster or slower, at another level, with noise 30 dB below."""
    random = np.random.default_rng([seed, len(sound)])
    said = soxr.resample(sound, RATE_HZ, round(RATE_HZ * random.uniform(1 - spread, 1 + spread)))
    level = np.sqrt(np.mean(said**2))
    noise = random.standard_normal(len(said)) * level * 10 ** (-30 / 20)
    return np.asarray(random.uniform(0.5, 1) * (said + noise), np.float32)


def write(path: Path, sound: NDArray[np.float32], seconds: float | None = None) -> None:
    """A sound as a 16-bit file, cut or filled up with silence to so many seconds."""
    if seconds is not None:
        samples = round(seconds * RATE_HZ)
        sound = np.pad(sound[:samples], (0, max(samples - len(sound), 0)))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, RATE_HZ, subtype="PCM_16")


def save_hearer(folder: Path, seed: int = 0) -> Path:
    """A small wav2vec2 with random weights, whose states tell sounds apart by means alone."""
    wide = {"hidden_size": 128, "intermediate_size": 128, "conv_dim": (64,) * 7, "num_hidden_layers": 2}
    return save_small(folder, "wav2vec2-large", seed=seed, initializer_range=0.1, **wide)


def speech_commands(root: Path, takes: int = 12) -> None:
    """Speech Commands v0.01 and its test archive: each word is a digit or letter of the prompts."""
    from wav2bold.trainables.superb.ks import WORDS, part_of

    spoken = {word: f"digits/{number}" for number, word in enumerate(WORDS)}
    unknown = {"bed": "letters/w", "cat": "letters/h", "tree": "phonetic/u_p"}
    speakers = iter(f"{number:08x}" for number in range(10**6))
    train = [
        name for name in (next(speakers) for _ in range(60)) if part_of(f"{name}_nohash_0.wav") == "train"
    ]
    main, test = root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01"
    for word, name in (spoken | unknown).items():
        for number, speaker in enumerate((*train[:takes], *DEV_SPEAKERS[:2], TEST_SPEAKERS[0])):
            write(main / word / f"{speaker}_nohash_0.wav", take(prompt(name), number), 1)
        for number in range(3):
            folder = word if word in spoken else "_unknown_"
            write(test / folder / f"{word}{number}.wav", take(prompt(name), 100 + number), 1)
    random = np.random.default_rng(0)
    for name in ("white_noise", "pink_noise"):
        noise = random.standard_normal(12 * RATE_HZ).astype(np.float32)
        if name == "pink_noise":
            noise = np.cumsum(noise - noise.mean(), dtype=np.float32) * np.float32(0.1)
        write(main / "_background_noise_" / f"{name}.wav", 0.02 * noise / noise.std())
    for number in range(4):
        write(
            test / "_silence_" / f"{number}.wav", (0.02 * random.standard_normal(RATE_HZ)).astype(np.float32)
        )


def fluent_speech_commands(root: Path, takes: int = 6) -> None:
    """Fluent Speech Commands: an action and an object, each a word of the prompts, and where: near or far."""
    home = root / "fluent_speech_commands_dataset"
    actions = {"activate": "digits/6", "deactivate": "digits/3", "increase": "letters/w"}
    objects = {"lights": "digits/9", "music": "letters/zed"}
    rows: dict[str, list[list[object]]] = {"train": [], "valid": [], "test": []}
    for action, first in actions.items():
        for thing, second in objects.items():
            for place, gap_s in (("none", 0.0), ("kitchen", 0.6)):
                for number in range(takes + 4):
                    part = "train" if number < takes else "valid" if number < takes + 2 else "test"
                    gap = np.zeros(round(gap_s * RATE_HZ), np.float32)
                    said = np.concatenate(
                        [take(prompt(first), number), gap, take(prompt(second), number + 50)]
                    )
                    name = f"wavs/speakers/{number:02d}/{action}-{thing}-{place}.wav"
                    write(home / name, said)
                    rows[part].append([len(rows[part]), name, f"{number:02d}", "...", action, thing, place])
    for part, own in rows.items():
        path = home / "data" / f"{part}_data.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["", "path", "speakerId", "transcription", "action", "object", "location"])
            writer.writerows(own)


def voxceleb1(root: Path, languages: Sequence[str] = ("en", "fr", "it")) -> None:
    """VoxCeleb1: the prompts' speakers, each of one language, in files of 2 s and one of 17 s."""
    home = root / "VoxCeleb1"
    lines = []
    for number, language in enumerate(languages):
        said = _prompts_in_one(language)
        speaker = f"id{10001 + number}"
        half = "test" if number == 1 else "dev"
        # train, dev and test don't overlap; one file is longer than a crop
        pieces = [(1, 0, 17), *[(1, start, start + 2) for start in range(17, 65, 2)]]
        pieces += [(2, start, start + 2) for start in range(65, 75, 2)]
        pieces += [(3, start, start + 2) for start in range(75, 91, 2)]
        for part, start, stop in pieces:
            name = f"{speaker}/video{part}/{start:05d}.wav"
            write(home / half / "wav" / name, said[start * RATE_HZ : stop * RATE_HZ])
            lines.append(f"{part} {name}\n")
    (home / "iden_split.txt").write_text("".join(lines))


def voxceleb1_trials(root: Path, files: int = 3, voices: tuple[int, int] = (36, 8)) -> None:
    """VoxCeleb1 with its verification list: so many voices in dev/wav and in test/wav.

    A voice is a prompts' speaker, faster or slower and heard through a filter of the voice's own. Each says
    the same every time, from another moment on.
    """
    home = root / "VoxCeleb1"
    random = np.random.default_rng(0)
    spoken = [_prompts_in_one(language) for language in ("en", "fr", "it")]
    names = list[str]()
    for half, first, count in (("dev", 10001, voices[0]), ("test", 10270, voices[1])):
        for number in range(count):
            said, factor = spoken[number % 3], random.uniform(0.75, 1.33)
            taps, ring_hz = np.arange(256), 300 * 12 ** random.uniform()  # up to 3,600
            tract = np.cos(2 * np.pi * ring_hz * taps / RATE_HZ) * np.exp(-taps / 50)
            for place in range(files):
                start = int(random.integers(RATE_HZ // 8))
                voiced = soxr.resample(said[start : start + 4 * RATE_HZ], RATE_HZ, RATE_HZ * factor)
                voiced = np.convolve(voiced / np.abs(voiced).max(), tract / np.abs(tract).sum(), "same")
                name = f"id{first + number}/video{place}/{place:05d}.wav"
                write(home / half / "wav" / name, take(voiced.astype(np.float32), place, 0.01), 2.01)
                names += [name] * (half == "test")
    lines = [
        f"{int(one.split('/')[0] == other.split('/')[0])} {one} {other}\n"
        for one, other in combinations(names, 2)
    ]
    (home / "veri_test.txt").write_text("".join(lines))


def _prompts_in_one(language: str) -> NDArray[np.float32]:
    names = sorted(path for path in prompts(language).glob("*.g722") if path.stat().st_size > 24_000)[:30]
    return np.concatenate([_read_g722(path) for path in names])[RATE_HZ:]


def libri2mix(root: Path, mixes: tuple[int, int, int] = (32, 8, 12), seconds: float = 3) -> None:
    """Libri2Mix in Kaldi's folders: each recording has a prompt's speaker of English and one of French."""
    home = root / "Libri2Mix"
    random = np.random.default_rng(0)
    spoken = [_prompts_in_one(language) for language in ("en", "fr")]
    for part, count in zip(("train", "dev", "test"), mixes, strict=True):
        recordings = []
        for number in range(count):
            name = f"{part}-{number}"
            sound = np.zeros(round(seconds * RATE_HZ), np.float32)
            turns = []
            for speaker, said in enumerate(spoken):
                start, stop = np.sort(random.uniform(0, seconds, 2)).round(2)
                stop = min(max(stop, start + 0.5), seconds)
                first, samples = round(start * RATE_HZ), round((stop - start) * RATE_HZ)
                begin = int(random.integers(len(said) - samples))
                sound[first : first + samples] += said[begin : begin + samples]
                turns.append((f"speaker{speaker}", start, stop))
            path = home / "wav16k" / "max" / part / f"{name}.wav"
            write(path, take(sound, number, 0.0))
            recordings.append((name, path, turns))
        write_kaldi(home / "diarization" / part, recordings)


def write_kaldi(
    folder: Path, recordings: Sequence[tuple[str, Path, Sequence[tuple[str, float, float]]]]
) -> None:
    """Kaldi's folder of recordings with their turns, as s3prl/LibriMix's prepare_diarization.py has it."""
    texts = {"wav.scp": "", "segments": "", "utt2spk": "", "rttm": "", "reco2dur": ""}
    for name, path, turns in recordings:
        texts["wav.scp"] += f"{name} {path}\n"
        texts["reco2dur"] += f"{name} {soundfile.info(path).duration}\n"
        for number, (speaker, start, stop) in enumerate(turns):
            texts["segments"] += f"{name}_{speaker}_{number} {name} {start} {stop}\n"
            texts["utt2spk"] += f"{name}_{speaker}_{number} {speaker}\n"
            texts["rttm"] += f"SPEAKER {name} 1 {start:7.2f} {stop - start:7.2f} <NA> <NA> {speaker} <NA>\n"
    folder.mkdir(parents=True)
    for file, text in texts.items():
        (folder / file).write_text(text)


def iemocap(root: Path, takes: int = 5) -> None:
    """IEMOCAP: a prompt said low and slow (sad), fast and high (happy), clipped (angry), or plainly."""
    ways: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
        "neu": lambda sound: sound,
        "hap": lambda sound: soxr.resample(sound, RATE_HZ, RATE_HZ * 0.75),
        "exc": lambda sound: soxr.resample(sound, RATE_HZ, RATE_HZ * 0.7),
        "ang": lambda sound: np.tanh(40 * sound) * 0.5,
        "sad": lambda sound: soxr.resample(sound, RATE_HZ, RATE_HZ * 1.4),
        "fru": lambda sound: sound,
    }
    words = sorted(path.stem for path in prompts().glob("vm-*.g722"))
    for session in range(1, 6):
        home = root / "IEMOCAP_full_release" / f"Session{session}"
        dialog = f"Ses{session:02d}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n", "\n"]
        for number in range(takes):
            for emotion, way in ways.items():
                name = f"{dialog}_F{len(lines):03d}"
                word = words[(session * takes + number) % len(words)]
                said = way(take(prompt(word)[: 2 * RATE_HZ], number, 0.03))
                write(home / "sentences" / "wav" / dialog / f"{name}.wav", np.asarray(said, np.float32))
                lines.append(f"[6.2901 - 8.2357]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n")
                lines.append("C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n")
        told = home / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        told.parent.mkdir(parents=True, exist_ok=True)
        told.write_text("".join(lines))


def librispeech(root: Path, utterances: int = 10, *, same: bool = False) -> None:
    """LibriSpeech of three parts and a lexicon: prompts and what they say, phones being letters.

    same: whether all parts hold the same utterances, of a word or two each.
    """
    home = root / "LibriSpeech"
    lengths = range(1, 3) if same else range(2, 6)
    said = {
        name: text
        for name, text in transcripts().items()
        if set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ") and len(text.split()) in lengths
    }
    names = sorted(said)[: utterances if same else 3 * utterances]
    words = set[str]()
    for place, part in enumerate(("train-clean-100", "dev-clean", "test-clean")):
        own = names if same else names[place * utterances : (place + 1) * utterances]
        folder = home / part / "7" / str(place)
        lines = []
        for number, name in enumerate(own):
            utterance = f"7-{place}-{number:04d}"
            path = folder / f"{utterance}.flac"
            write(path, prompt(name))
            lines.append(f"{utterance} {said[name]}\n")
            words |= set(said[name].split())
        (folder / f"7-{place}.trans.txt").write_text("".join(lines))
    lexicon = "".join(f"{word}\t{' '.join(word.replace(chr(39), ''))}\n" for word in sorted(words))
    (home / "librispeech-lexicon.txt").write_text(lexicon)


def transcripts() -> dict[str, str]:
    """What the English prompts say, in capitals, by the prompt's path."""
    listed = next(asterisk_prompts().rglob("core-sounds-en.txt.gz"))
    found = {}
    for line in gzip.decompress(listed.read_bytes()).decode().splitlines():
        name, colon, text = line.partition(": ")
        if colon and not line.startswith(";") and (prompts() / f"{name}.g722").is_file():
            found[name] = " ".join(text.upper().replace(".", " ").replace(",", " ").split())
    return found
