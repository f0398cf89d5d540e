"""What `prepare` costs: beside a plain nilearn loop, and as the number of recordings grows.

prepare_speedup: recordings per second on 2 cores over those of the loop that a lab writes: NiftiMasker on one
file after another, with the same cleaning, saved by numpy. (NiftiMasker's default filter, Butterworth's, goes
voxel by voxel and takes 25 times as long: it would flatter us.) Timed in turn, Ray already running, every
`prepare` into a new folder. Everybody hears another story: the loop measures no noise ceilings.
prepare_speedup_with_ceilings: the same where all hear one story, and `prepare` measures ceilings besides.
prepare_cost_growth: seconds per recording at 300 recordings over those at 10, start-up left out: what one
recording alone takes is subtracted from both.
prepare_memory_growth: the same two sizes, peak memory of the command and all its processes (PSS).
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import soundfile
from _figures import show
from nilearn.maskers import NiftiMasker

from wav2bold.cluster.connect import connected
from wav2bold.datasets import prepare as step

TR_S = 2.0
CPUS = 2
REPEATS = 5
LARGE, LARGE_RUNS = (50, 60, 40, 150), 12
"""A brain at 3 mm or so, 5 minutes: 120,000 voxels."""
SMALL, FEW, MANY = (20, 20, 10, 100), 10, 300
LOOK_EVERY_S = 0.2
ALONE = f"""
import sys
from pathlib import Path
from wav2bold.cluster.connect import connected
from wav2bold.datasets.prepare import prepare
with connected(cpus={CPUS}):
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = make(folder / "large", LARGE, LARGE_RUNS)
        alone = make(folder / "alone", LARGE, LARGE_RUNS, alike=False)
        sizes = {count: make(folder / f"runs-{count}", SMALL, count) for count in (1, FEW, MANY)}
        with connected(cpus=CPUS):
            prepare(large, folder)  # Ray's workers have loaded what they need
            for figure, root in (("prepare_speedup", alone), ("prepare_speedup_with_ceilings", large)):
                show(figure, [loop(root, folder) / prepare(root, folder) for _ in range(REPEATS)], "x")
            show("prepare_cost_growth", [cost_growth(sizes, folder) for _ in range(REPEATS)], "x")
        peaks = [peak_bytes(sizes[MANY], folder) / peak_bytes(sizes[FEW], folder) for _ in range(3)]
        show("prepare_memory_growth", peaks, "x")


def make(root: Path, shape: Sequence[int], runs: int, alike: bool = True) -> Path:
    """Recordings of noise: as many subjects, who hear one story, or each another."""
    stimuli = root / "stimuli"
    stimuli.mkdir(parents=True)
    random = np.random.default_rng(0)
    sound = 0.1 * random.standard_normal(16_000 * 60)
    y = (1000 + 10 * random.standard_normal(shape, dtype=np.float32)).astype(np.int16)
    image = nib.Nifti1Image(y, np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_zooms((3.0, 3.0, 3.0, TR_S))
    image.header.set_xyzt_units("mm", "sec")
    first = root / "first.nii.gz"
    nib.save(image, first)
    for number in range(runs):
        story = "story" if alike else f"story{number}"
        if not (stimuli / f"{story}.wav").exists():
            soundfile.write(stimuli / f"{story}.wav", sound * (1 - number / 1000), 16_000)
        func = root / f"sub-{number:03}" / "func"
        func.mkdir(parents=True)
        shutil.copy(first, func / f"sub-{number:03}_task-{story}_space-MNI_desc-preproc_bold.nii.gz")
        (func / f"sub-{number:03}_task-{story}_events.tsv").write_text(f"onset\tstim_file\n0\t{story}.wav\n")
    first.unlink()
    return root


def loop(recordings: Path, folder: Path) -> float:
    """Seconds of the plain loop over all recordings."""
    out = Path(tempfile.mkdtemp(dir=folder))
    shape = LARGE[:3]
    mask = nib.Nifti1Image(np.ones(shape, np.uint8), np.diag([3.0, 3.0, 3.0, 1.0]))
    begun = time.monotonic()
    for path in sorted(recordings.rglob("*_bold.nii.gz")):
        masker = NiftiMasker(
            mask,
            detrend=True,
            standardize="zscore_sample",
            high_pass=1 / 128,
            t_r=TR_S,
            clean_args={"filter": "cosine"},
        )
        np.save(out / f"{path.name}.npy", masker.fit_transform(path).astype(np.float16))
    seconds = time.monotonic() - begun
    shutil.rmtree(out)
    print(f"  loop {seconds:.1f} s", file=sys.stderr)
    return seconds


def prepare(recordings: Path, folder: Path) -> float:
    """Seconds of one `prepare` into a new folder."""
    out = Path(tempfile.mkdtemp(dir=folder))
    begun = time.monotonic()
    step.prepare(recordings, out / "shards")
    seconds = time.monotonic() - begun
    shutil.rmtree(out)
    print(f"  prepare {recordings.name} {seconds:.1f} s", file=sys.stderr)
    return seconds


def cost_growth(sizes: dict[int, Path], folder: Path) -> float:
    """Seconds per recording of the many over those of the few."""
    seconds = {count: prepare(recordings, folder) for count, recordings in sizes.items()}
    few, many = ((seconds[count] - seconds[1]) / (count - 1) for count in (FEW, MANY))
    return many / few


def peak_bytes(recordings: Path, folder: Path) -> float:
    """Largest memory that a `prepare` and all its processes hold together."""
    out = Path(tempfile.mkdtemp(dir=folder))
    process = psutil.Popen([sys.executable, "-c", ALONE, str(recordings), str(out / "shards")])
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, held_bytes(process))
        time.sleep(LOOK_EVERY_S)
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, ALONE)
    shutil.rmtree(out)
    print(f"  peak {recordings.name} {peak / 1e9:.2f} GB", file=sys.stderr)
    return peak


def held_bytes(process: psutil.Process) -> float:
    """Memory of a process and all its children, what they share counted once."""
    held = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            held += each.memory_full_info().pss
        except psutil.Error:
            continue  # it has ended
    return held


if __name__ == "__main__":
    main()
