"""Small folders with the exact file names of published collections, written by nibabel and h5py.

Each function writes a folder and gives what is true of it, for the suite that every layout passes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from recordings import (
    AFFINE,
    add_events,
    add_story,
    add_surfaces,
    add_volumes,
    noise,
    save_surface,
    save_volumes,
)

VOLUMES = 30
MUSIC, STORY = "music", "story"


@dataclass(frozen=True)
class Truth:
    """One recording as the suite expects it.

    tr_s: seconds between volumes.  sound_s, first_s: when its sound began and its first stored volume was
    acquired, both in seconds of the scan.
    """

    name: str
    tr_s: Fraction
    sound_s: Fraction
    first_s: Fraction
    y: NDArray[np.float32]
    sound: str


@dataclass(frozen=True)
class Published:
    """A folder or manifest, the layout that it is, and its recordings."""

    source: Path
    layout: str
    space: str
    truths: Sequence[Truth]


def brain_model(left: int = 4, right: int = 3) -> nib.cifti2.BrainModelAxis:
    """Cortices of 10 vertices, of which the last `left` and `right` are kept, and 2 voxels of a thalamus."""
    inside = np.zeros((3, 3, 3), bool)
    inside[1, 2, 0] = inside[2, 0, 1] = True
    return (
        nib.cifti2.BrainModelAxis.from_surface(np.arange(10 - left, 10), 10, name="CortexLeft")
        + nib.cifti2.BrainModelAxis.from_surface(np.arange(10 - right, 10), 10, name="CortexRight")
        + nib.cifti2.BrainModelAxis.from_mask(inside, affine=AFFINE, name="thalamus_left")
    )


def save_series(path: Path, y: NDArray[np.float32], tr: float, unit: str = "SECOND") -> None:
    """y: (volumes, 9) as CIFTI dtseries."""
    axes = (nib.cifti2.SeriesAxis(0, tr, len(y), unit=unit), brain_model())
    nib.save(nib.Cifti2Image(y, nib.cifti2.Cifti2Header.from_axes(axes)), path)


def add_series(
    root: Path, y: NDArray[np.float32], subject: str, story: str, onset_s: float, tr_s: float
) -> Path:
    """A recording as fMRIPrep's `--cifti-output` leaves it."""
    stem = f"{subject}_task-{story}"
    add_events(root, stem, story, onset_s)
    path = root / subject / "func" / f"{stem}_space-fsLR_den-91k_bold.dtseries.nii"
    save_series(path, y, tr_s)
    path.with_name(f"{stem}_space-fsLR_den-91k_bold.json").write_text(json.dumps({"RepetitionTime": tr_s}))
    return path


def bids_volumes(root: Path) -> Published:
    """FMRIPrep's volumes: sub-01 hears story1 twice and story2, sub-02 story1."""
    tr_s = Fraction("1.5")
    truths = []
    for story in ("story1", "story2", "story3"):
        add_story(root, story, 40.0)
    for seed, (subject, story, run, onset) in enumerate(
        [
            ("sub-01", "story1", 1, "3"),
            ("sub-01", "story1", 2, "6"),
            ("sub-01", "story2", 1, "0.7"),
            ("sub-02", "story3", 1, "4.25"),
        ]
    ):
        y = noise(3, 2, 2, VOLUMES, seed=seed)
        add_volumes(root, y, subject, story, run, float(onset), float(tr_s))
        name = f"{subject}/{story}" + (f"/{run}" if run > 1 else "")
        truths.append(Truth(name, tr_s, Fraction(onset), Fraction(0), y.reshape(12, VOLUMES).T, story))
    return Published(root, "bids", "MNI152NLin2009cAsym", truths)


def bids_series(root: Path) -> Published:
    """FMRIPrep's CIFTI: two subjects hear three stories."""
    truths = []
    for seed, (story, onset) in enumerate([("story1", "3"), ("story2", "0.7"), ("story3", "0")]):
        add_story(root, story, 40.0)
        for subject in ("sub-01", "sub-02"):
            y = noise(VOLUMES, 9, seed=seed + 10 * int(subject[-1]))
            add_series(root, y, subject, story, float(onset), 0.72)
            truths.append(
                Truth(f"{subject}/{story}", Fraction("0.72"), Fraction(onset), Fraction(0), y, story)
            )
    truths.sort(key=lambda truth: truth.name)
    return Published(root, "bids", "fsLR_den-91k", truths)


NARRATIVES = {
    # task: its story or stories in event_meta.json (volumes), and the events file's lines
    "pieman": (
        {"pieman": {"onset": 10, "duration": 281}},
        [("0.0", "13.0", MUSIC, "pieman_audio.wav"), ("15.0", "422.0", STORY, "pieman_audio.wav")],
    ),
    "piemanpni": (
        {"piemanpni": {"onset": 8, "duration": 267}},
        [("12.0", "400.0", STORY, "piemanpni_audio.wav")],
    ),
    "lucy": ({"lucy": {"onset": 1, "duration": 361}}, [("2.0", "542.0", STORY, "lucy_audio.wav")]),
    "milkyway": (
        {"milkyway": {"onset": 14, "duration": 269}},
        [
            ("0.0", "18.0", MUSIC, "milkywayvodka_audio.wav"),
            ("21.0", "404.0", STORY, "milkywayvodka_audio.wav"),
        ],
    ),
    "slumlordreach": (
        {"reach": {"onset": 646, "duration": 550}, "slumlord": {"onset": 20, "duration": 602}},
        [
            ("4.5", "22.0", MUSIC, "slumlordreach_audio.wav"),
            ("29.5", "903.0", STORY, "slumlordreach_audio.wav"),
            ("944.5", "22.0", MUSIC, "slumlordreach_audio.wav"),
            ("969.5", "825.0", STORY, "slumlordreach_audio.wav"),
        ],
    ),
    "schema": ({}, [("12.0", "180.0", STORY, "shame_audio.wav"), ("220.0", "170.0", "movie", "n/a")]),
}
"""As in the collection's code/event_meta.json and events files."""

EXCLUDED = {
    "lucy": {"sub-053": ["sub-053_task-lucy"]},
    "pieman": {"sub-001": ["sub-001_task-pieman_run-1"], "sub-021": ["sub-021_task-pieman"]},
    "piemanpni": {},
    "schema": {},
}


def narratives(root: Path) -> Published:
    """ds002345: 6 recordings of stories; 3 more are excluded, 1 has no story, 1 was not fetched."""
    (root / "code").mkdir(parents=True)
    metas = {task: stories for task, (stories, _) in NARRATIVES.items() if task != "schema"}
    (root / "code" / "event_meta.json").write_text(json.dumps(metas, indent=2))
    (root / "code" / "scan_exclude.json").write_text(json.dumps(EXCLUDED, indent=2))
    recordings = [
        # subject, task, run, when its sound began (None: it is left out)
        ("sub-001", "pieman", 1, None),
        ("sub-001", "pieman", 2, "0"),
        ("sub-002", "pieman", 1, "0"),
        ("sub-002", "pieman", 2, "0"),
        ("sub-021", "pieman", None, None),
        ("sub-021", "piemanpni", None, "12"),
        ("sub-026", "milkyway", None, "0"),
        ("sub-053", "lucy", None, None),
        ("sub-060", "schema", 1, None),
        ("sub-140", "slumlordreach", None, "4.5"),
    ]
    truths = []
    heard: dict[tuple[str, str], int] = {}
    for seed, (subject, task, run, sound_s) in enumerate(recordings):
        stem = f"{subject}_task-{task}" + (f"_run-{run}" if run else "")
        left, right = noise(VOLUMES, 5, seed=seed), noise(VOLUMES, 4, seed=seed + 100)
        add_narrative(root, subject, stem, left, right, NARRATIVES[task][1])
        if sound_s is None:
            continue
        sound = NARRATIVES[task][1][0][3]
        story = sound.removesuffix("_audio.wav")
        heard[subject, story] = heard.get((subject, story), 0) + 1
        name = f"{subject}/{story}" + (f"/{heard[subject, story]}" if heard[subject, story] > 1 else "")
        y = np.concatenate([left, right], axis=1)
        truths.append(Truth(name, Fraction("1.5"), Fraction(sound_s), Fraction(0), y, Path(sound).stem))
    unfetched = root / "derivatives" / "afni-nosmooth" / "sub-078" / "func"
    unfetched.mkdir(parents=True)
    for side in "LR":
        link = unfetched / f"sub-078_task-pieman_space-fsaverage6_hemi-{side}_desc-clean.func.gii"
        link.symlink_to("../../.git/annex/objects/nowhere")
    return Published(root, "narratives", "fsaverage6", truths)


def add_narrative(
    root: Path,
    subject: str,
    stem: str,
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    events: Sequence[Sequence[str]],
) -> None:
    """One recording of ds002345 on both surfaces and as volumes, its events and its sounds."""
    derived, raw = root / "derivatives" / "afni-nosmooth" / subject / "func", root / subject / "func"
    derived.mkdir(parents=True, exist_ok=True)
    raw.mkdir(parents=True, exist_ok=True)
    save_surface(derived / f"{stem}_space-fsaverage6_hemi-L_desc-clean.func.gii", left)
    save_surface(derived / f"{stem}_space-fsaverage6_hemi-R_desc-clean.func.gii", right)
    volumes = derived / f"{stem}_space-MNI152NLin2009cAsym_res-native_desc-clean_bold.nii.gz"
    save_volumes(volumes, np.ascontiguousarray(left.T[:4].reshape(2, 2, 1, -1)), 1.5)
    (derived / f"{stem}_desc-model_regressors.1D").write_text("0 0\n")
    lines = ["\t".join(row) for row in [("onset", "duration", "trial_type", "stim_file"), *events]]
    (raw / f"{stem}_events.tsv").write_text("\n".join(lines) + "\n")
    for *_, sound in events:
        if sound != "n/a":
            add_story(root, Path(sound).stem, 40.0)


def lebel(root: Path) -> Published:
    """ds003020: UTS01 hears wheretheressmoke three times and two stories once, UTS02 each once."""
    tr_s, silence_s = Fraction("2.0045"), Fraction(10)
    truths = []
    for story in ("adollshouse", "souls", "wheretheressmoke"):
        add_story(root, story, 90.0)
    for number, (subject, voxels) in enumerate([("UTS01", 7), ("UTS02", 6)]):
        for place, story in enumerate(("adollshouse", "souls", "wheretheressmoke")):
            seed = 10 * number + place
            if (subject, story) == ("UTS01", "wheretheressmoke"):
                repeats = noise(3, VOLUMES, voxels, seed=seed).astype(np.float64)
                add_matrices(root, subject, story, data=repeats.mean(axis=0), individual_repeats=repeats)
            else:
                repeats = noise(1, VOLUMES, voxels, seed=seed).astype(np.float64)
                add_matrices(root, subject, story, data=repeats[0])
            for index, y in enumerate(repeats):
                name = f"{subject}/{story}" + (f"/{index + 1}" if index else "")
                truths.append(Truth(name, tr_s, silence_s, 10 * tr_s, y.astype(np.float32), story))
    return Published(root, "lebel", "native", truths)


def add_matrices(root: Path, subject: str, story: str, **arrays: NDArray[np.float64]) -> Path:
    path = root / "derivative" / "preprocessed_data" / subject / f"{story}.hf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
    return path


def manifest(root: Path) -> Published:
    """A manifest written by hand: columns in another order, names with spaces, commas and other alphabets."""
    story = add_story(root, "Märchen, der alten Zeit", 40.0)
    left, right = noise(VOLUMES, 5, seed=1), noise(VOLUMES, 4, seed=2)
    pair = add_surfaces(root / "a b, c", left, right)
    other = noise(VOLUMES, 9, seed=3)
    matrix = add_matrices(root, "S1", "x", first=other.astype(np.float64), second=np.zeros((3, 3)))
    series = noise(VOLUMES, 9, seed=4)
    save_series(root / "heard.dtseries.nii", series, 1.5)
    (root / "motion.tsv").write_text("x\n" + "1\n" * VOLUMES)
    sound = story.relative_to(root)
    surfaces = ",".join(str(path.relative_to(root)) for path in pair)
    rows = [
        ("onset_s", "audio", "bold", "space", "story", "subject", "tr", "confounds", "remark"),
        ("3.5", sound, surfaces, "made up", "Märchen", "Anna B", "1.5", "motion.tsv", "was tired"),
        ("", "", "", "", "", "", "", "", ""),
        (
            "-10.045",
            sound,
            f"{matrix.relative_to(root)}::first",
            "made up",
            "Märchen",
            "Ben",
            "1.5",
            "n/a",
            "",
        ),
        ("0", sound, "heard.dtseries.nii", "made up", "Märchen", "Cleo", "n/a", "", ""),
    ]
    path = root / "runs.tsv"
    path.write_text(
        "\ufeff" + "\r\n".join("\t".join(map(str, row)) for row in rows) + "\r\n", encoding="utf-8"
    )
    tr_s = Fraction("1.5")
    truths = [
        Truth("Anna B/Märchen", tr_s, Fraction("3.5"), Fraction(0), np.hstack([left, right]), story.stem),
        Truth("Ben/Märchen", tr_s, Fraction("-10.045"), Fraction(0), other, story.stem),
        Truth("Cleo/Märchen", tr_s, Fraction(0), Fraction(0), series, story.stem),
    ]
    return Published(path, "manifest", "made up", truths)


COLLECTIONS = {
    "bids volumes": bids_volumes,
    "bids CIFTI": bids_series,
    "narratives": narratives,
    "lebel": lebel,
    "manifest": manifest,
}
