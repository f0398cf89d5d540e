"""Whatever a user gets wrong ends in one line that names it and the way out, and changes nothing."""

import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest
import soundfile
from commands import Done, Made, contents, edited, here, installed, wav2bold
from listeners import RATE_HZ, speech

from wav2bold.datasets.shards import open_shards


@dataclass(frozen=True)
class Case:
    """words: of the command, run in `folder`.  says: parts of the line.  make: sets the scene first.

    run: `installed` where importing, too, shall say nothing; once for each step.
    """

    name: str
    words: str
    says: tuple[str, ...]
    make: Callable[[Path, Made], object] = lambda folder, made: None
    env: Mapping[str, str] = field(default_factory=dict)
    run: Callable[..., Done] = wav2bold


def study(**options: object) -> Callable[[Path, Made], object]:
    """The tiny study in the folder, with these options changed."""
    return lambda folder, made: made.study_at(folder, **options)


def text(name: str, content: str | bytes) -> Callable[[Path, Made], object]:
    """A file in the folder, and the tiny study."""

    def make(folder: Path, made: Made) -> None:
        made.study_at(folder)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def encoder(**damage: str | None) -> Callable[[Path, Made], object]:
    """The study with a damaged copy of its encoder: file stem -> new content, None for no such file."""

    def make(folder: Path, made: Made) -> None:
        copy = shutil.copytree(made.recordings / "encoder", folder / "broken")
        for stem, content in damage.items():
            (path,) = copy.glob(f"{stem}.*")
            path.unlink() if content is None else path.write_text(content)
        made.study_at(folder, encoder="broken")

    return make


def recordings(damage: Callable[[Path], object]) -> Callable[[Path, Made], object]:
    """A copy of the tiny recordings, damaged."""

    def make(folder: Path, made: Made) -> None:
        shutil.copytree(made.recordings, folder / "recordings", ignore=shutil.ignore_patterns("truth"))
        damage(folder / "recordings")

    return make


def one(root: Path, pattern: str) -> Path:
    return min(root.rglob(pattern))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def clips(folder: Path, made: Made) -> None:
    (folder / "clips").mkdir()
    soundfile.write(folder / "clips" / "good.wav", speech(5, 0), RATE_HZ)
    (folder / "clips" / "bad.wav").write_text("not audio")


def few_clips(folder: Path, made: Made) -> None:
    clips(folder, made)
    (folder / "clips" / "bad.wav").unlink()


def full(folder: Path, made: Made) -> None:
    made.study_at(folder)
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("do not lose")


def both(*makes: Callable[[Path, Made], object]) -> Callable[[Path, Made], object]:
    return lambda folder, made: [make(folder, made) for make in makes]


paper = text("paper.yaml", "history: 6\n")
SMALL = "--subjects 1 --stories 3 --minutes 0.5 --hearing-targets 5 --silent-targets 1"

QUICK = [
    # the study file
    Case("study that is absent", "sweep none.yaml", ("none.yaml: no such file", "prepare")),
    Case("study that is a folder", "sweep .", ("can't be read", "give a YAML text file")),
    Case("empty study", "sweep x.yaml", ("x.yaml: holds no options", "key: value"), text("x.yaml", "")),
    Case(
        "binary study", "sweep x.yaml", ("x.yaml", "give a YAML text file"), text("x.yaml", b"\xbb\xff\x00")
    ),
    Case(
        "study that is no YAML", "best x.yaml", ("x.yaml: not YAML at line 2",), text("x.yaml", "a: 1\nb: ]")
    ),
    Case("study that is a list", "best x.yaml", ("x.yaml: holds no options",), text("x.yaml", "- 1\n- 2\n")),
    Case("unknown option", "sweep study.yaml", ("serach", "did you mean search?"), study(serach=1)),
    Case(
        "unknown option in a section",
        "sweep study.yaml",
        ("configuration.histroy: no such option; did you mean history?",),
        study(configuration__histroy=3),
    ),
    Case(
        "option out of range",
        "sweep study.yaml",
        ("configuration.history: 99 is out of range; the nearest valid value is 40",),
        study(configuration__history=99),
    ),
    Case(
        "word out of range",
        "sweep study.yaml",
        ("search.space.unfrozen", "did you mean attention?"),
        study(search__space__unfrozen=["atention"]),
    ),
    Case(
        "layer that the encoder lacks",
        "sweep study.yaml",
        ("unfrozen.attention: there is no layer 9", "last layer is 1"),
        study(configuration__unfrozen={"attention": [0, 9]}),
    ),
    Case(
        "adapters of matrices that are trained whole",
        "sweep study.yaml",
        ("configuration: attention is in unfrozen and in lora.targets", "keep it in one"),
        study(configuration__unfrozen={"attention": None}, configuration__lora={"rank": 4}),
    ),
    Case(
        "adapters in a layer that the encoder lacks",
        "sweep study.yaml",
        ("lora.layers: there is no layer 2", "last layer is 1"),
        study(configuration__unfrozen={}, configuration__lora={"layers": [1, 2]}),
    ),
    Case(
        "story that the shards lack",
        "sweep study.yaml",
        ("no story story5", "did you mean story0"),
        study(split__test=["story5"]),
    ),
    Case(
        "subject that the shards lack",
        "sweep study.yaml",
        ("no sub-01", "did you mean sub-001?"),
        study(subjects=["sub-01"]),
    ),
    Case("name with a slash", "sweep study.yaml", ("study.yaml: name", "../x"), study(name="../x")),
    # the shards
    Case(
        "sweep before prepare", "sweep study.yaml", ("none: holds no shards", "prepare"), study(shards="none")
    ),
    Case(
        "shards not finished",
        "sweep study.yaml",
        ("half: not finished by `wav2bold prepare`; run the same command again",),
        both(study(shards="half"), text("half/.wav2bold", ""), study(shards="half")),
    ),
    Case(
        "shards' card is rubbish",
        "sweep study.yaml",
        ("dataset.json: was not written by wav2bold",),
        both(text("half/dataset.json", "[]"), study(shards="half")),
    ),
    # the encoder
    Case(
        "encoder that is absent",
        "sweep study.yaml",
        ("encoder ./none", "can't be loaded"),
        study(encoder="./none"),
    ),
    Case(
        "encoder without weights",
        "sweep study.yaml",
        ("broken can't be loaded", "give a folder"),
        encoder(model=None),
    ),
    Case("encoder cut short", "sweep study.yaml", ("broken can't be loaded", "give"), encoder(model="short")),
    Case(
        "encoder without its preprocessor",
        "sweep study.yaml",
        ("broken can't be loaded", "preprocessor_config.json"),
        encoder(preprocessor_config=None),
    ),
    Case(
        "encoder of another family",
        "refine study.yaml",
        ("broken: of the family bert, which is not taken", "give an encoder of wav2vec2, hubert"),
        encoder(config='{"model_type": "bert"}'),
        run=installed,
    ),
    # what comes before what
    Case(
        "best before sweep",
        "best study.yaml",
        ("remembers no sweep", "run `wav2bold sweep` first"),
        study(),
        run=installed,
    ),
    Case(
        "report before sweep",
        "report study.yaml",
        ("remembers no sweep", "wav2bold sweep"),
        study(),
        run=installed,
    ),
    # MLflow
    Case(
        "mlflow.db that is no database",
        "best study.yaml",
        ("mlflow.db can't be used", "not a database", "move that file away"),
        text("mlflow.db", "hello\n" * 100),
    ),
    Case(
        "tracking server that is off",
        "best study.yaml",
        ("MLflow at http://127.0.0.1:1 can't be used", "MLFLOW_TRACKING_URI"),
        study(),
        {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
    ),
    Case(
        "tracking address of no kind that there is",
        "best study.yaml",
        ("MLflow at ftp://me:***@there can't be used", "MLFLOW_TRACKING_URI"),
        study(),
        {"MLFLOW_TRACKING_URI": "ftp://me:secret@there"},
    ),
    # the configuration
    Case(
        "no configuration",
        "refine study.yaml --config no.yaml",
        ("no.yaml: no such file", "wav2bold best"),
        study(),
    ),
    Case(
        "study as configuration",
        "refine study.yaml --config study.yaml",
        ("study.yaml: is a study, not a configuration",),
        study(),
    ),
    Case(
        "configuration with a wrong option",
        "refine study.yaml --config c.yaml",
        ("c.yaml: histroy: no such option; did you mean history?",),
        text("c.yaml", "histroy: 6\n"),
    ),
    Case("nobody", "refine study.yaml --config paper.yaml --subjects ,", ("names nobody", "sub-001"), paper),
    Case(
        "unknown subject",
        "refine study.yaml --config paper.yaml --subjects sub-0001",
        ("no sub-0001", "did you mean sub-001?"),
        paper,
    ),
    # scanning time
    Case(
        "minutes that are no numbers",
        "efficiency study.yaml --subject sub-001 --minutes 5,ten",
        ("--minutes: 5,ten are no numbers", "write them as in 5,10,20"),
        study(),
    ),
    Case(
        "minutes of nobody",
        "efficiency study.yaml --subject sub-0001",
        ("no sub-0001", "did you mean sub-001?"),
        study(),
    ),
    # where results go
    Case("simulate into a full folder", f"simulate full {SMALL}", ("full: is not empty",), full),
    Case("simulate onto a file", f"simulate x.yaml {SMALL}", ("x.yaml: is a file",), text("x.yaml", "")),
    Case("simulate below a file", f"simulate x.yaml/y {SMALL}", ("x.yaml: is a file",), text("x.yaml", "")),
    Case(
        "demo into a full folder", "demo --out full", ("full: is not empty and not a demo's", "--out"), full
    ),
    Case("demo onto a file", "demo --out x.yaml", ("x.yaml: is a file",), text("x.yaml", "")),
    Case("refine into a full folder", "refine study.yaml --out full", ("full: is not empty", "--out"), full),
    Case("refine onto a file", "refine study.yaml --out study.yaml", ("study.yaml: is a file",), full),
    Case("refine below a file", "refine study.yaml --out study.yaml/x", ("study.yaml: is a file",), full),
    Case("best onto a folder", "best study.yaml --out full", ("full: is a folder",), full),
    Case("best below a file", "best study.yaml --out study.yaml/x", ("study.yaml: is a file",), full),
    Case("report onto a folder", "report study.yaml --out full", ("full: is a folder",), full),
    Case("report below a file", "report study.yaml --out study.yaml/x", ("study.yaml: is a file",), full),
    Case(
        "results on a file",
        "sweep study.yaml",
        ("a.txt: is a file", "results"),
        both(text("a.txt", ""), study(results="a.txt")),
    ),
    # simulate
    Case("no such speech", f"simulate out --speech none {SMALL}", ("none: no such folder", "recordings")),
    Case(
        "no speech in a folder",
        f"simulate out --speech full {SMALL}",
        ("full: holds no recordings", ".wav"),
        full,
    ),
    Case("speech that is no audio", f"simulate out --speech clips {SMALL}", ("bad.wav",), clips),
    Case(
        "too little speech", f"simulate out --speech clips {SMALL}", ("clips:", "add recordings"), few_clips
    ),
    Case(
        "no such noise",
        f"simulate out --noise none.mgz {SMALL}",
        ("none.mgz: no such file", "resting-state"),
        run=installed,
    ),
    Case(
        "noise that is no BOLD",
        f"simulate out --noise x.nii.gz {SMALL}",
        ("x.nii.gz: can't be read", ".mgz"),
        text("x.nii.gz", "no"),
    ),
    Case(
        "option of simulate out of range",
        "simulate out --history 50",
        ("history: 50", "nearest valid value is 20"),
    ),
    Case(
        "layer that the simulated encoder lacks",
        "simulate out --perturbed-layers 0,7",
        ("perturbed_layers.1: 7 is none of 0, 1; write one of them",),
    ),
    Case("TR off the grid", "simulate out --tr 1.51", ("1.51", "nearest valid value is 1.5")),
    # the command line
    Case("no such command", "sweeep x", ("sweeep", "--help")),
    Case("no such option", "sweep x --cpu 2", ("--cpu", "--help")),
    Case("recordings that are absent", "prepare none --out out", ("none: no such folder",)),
    Case("layout that is none", "manifest full --layout bidz", ("--layout bidz", "did you mean bids?"), full),
    Case(
        "manifest with mistakes",
        "manifest runs.tsv",
        ("runs.tsv: 3 mistakes:", "line 2: tr two is no number", "line 2: bold", "line 2: audio"),
        text("runs.tsv", "subject\tstory\tbold\taudio\ttr\tonset_s\ns\tx\tb.nii\ta.wav\ttwo\t0\n"),
    ),
    Case("prepare into a full folder", "prepare full --out full", ("full: is not empty",), full),
    Case("prepare below a file", "prepare full --out study.yaml/x", ("study.yaml: is a file",), full),
]

# Of recordings that can't be used, all kinds are in datasets/test_left_out.py.
WITH_RAY = [
    Case("no recordings", "prepare full --out out", ("full: no recordings found", "fMRIPrep"), full),
    Case(
        "BOLD cut short",
        "prepare recordings --out out --strict",
        ("sub-001", "_bold.func.gii"),
        recordings(lambda root: truncated(one(root, "sub-001*_bold.func.gii"))),
        run=installed,
    ),
    Case(
        "more cores a trial than there are",
        "sweep study.yaml --cpus 1",
        ("search.cpus_per_trial: 8 is more than the cluster's 1", "nearest valid value is 1"),
        study(search__cpus_per_trial=8),
        run=installed,
    ),
    Case(
        "no cluster at the address",
        "sweep study.yaml --address 127.0.0.1:1",
        ("127.0.0.1:1", "ray up"),
        study(),
    ),
]


def check(case: Case, made: Made, folder: Path) -> None:
    case.make(folder, made)
    before = contents(folder)
    done = case.run(*case.words.split(), folder=folder, env=case.env, timeout_s=120)
    shown = done.out + done.err
    assert "Traceback" not in shown, shown[-3000:]
    assert done.code == 2, shown[-3000:]
    assert len(done.errors) == 1, done.err
    (line,) = done.errors
    assert line.startswith("wav2bold: ")
    for part in case.says:
        assert part in line, line
    assert "; " in line, f"names no way out: {line}"
    assert len(line) < 600, line
    assert "secret" not in line
    assert contents(folder) == before


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_a_mistake_ends_in_one_line_and_changes_nothing(case: Case, tiny: Made, tmp_path: Path) -> None:
    check(case, tiny, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", WITH_RAY, ids=lambda case: case.name)
def test_a_mistake_that_takes_reading_changes_nothing_either(case: Case, tiny: Made, tmp_path: Path) -> None:
    check(case, tiny, tmp_path)


def test_a_tracking_server_that_never_answers_is_given_up(tiny: Made, tmp_path: Path) -> None:
    path = tiny.study_at(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        begun = time.monotonic()
        done = wav2bold("best", path, env={"MLFLOW_TRACKING_URI": uri}, timeout_s=120)
    assert done.code == 2
    assert uri in done.errors[0]
    assert time.monotonic() - begun < 60  # MLflow's own patience is a quarter of an hour


@pytest.mark.slow
def test_prepare_does_the_others_and_lists_what_failed_at_the_end(tiny: Made, tmp_path: Path) -> None:
    recordings(lambda root: truncated(one(root, "sub-001*_bold.func.gii")))(tmp_path, tiny)
    done = wav2bold("prepare", "recordings", "--out", "out", folder=tmp_path, timeout_s=120)
    assert done.code == 1, done.err
    *_, heading, line = done.err.splitlines()
    assert heading == "1 failed, the others are done:"
    assert "sub-001" in line
    assert "_bold.func.gii: can't be read" in line
    assert "; " in line
    shards, whole = (open_shards(folder).card for folder in (tmp_path / "out", tiny.shards))
    assert shards.subjects["sub-002"] == whole.subjects["sub-002"]
    assert len(shards.subjects["sub-001"].stories) == len(whole.subjects["sub-001"].stories) - 1
    assert (tmp_path / "study.yaml").is_file()


def test_refine_before_best_works_with_the_papers_configuration(
    tiny: Made, tmp_path: Path, small_ray: None
) -> None:
    path = tiny.study_at(tmp_path, configuration__epochs=0)
    done = here("refine", path, "--subjects", "sub-002, sub-002")
    assert done.code == 0, done.err
    assert [folder.name for folder in (tmp_path / "refined-paper").iterdir()] == ["sub-002"]
    done = wav2bold("report", edited(path, path), "--out", tmp_path / "r.html")
    assert done.code == 2
    assert "remembers no sweep" in done.errors[0]


def test_no_command_at_all_shows_the_help_and_nothing_else(tmp_path: Path) -> None:
    done = installed(folder=tmp_path)
    assert done.code == 2
    assert "Usage" in done.out + done.err
    assert "wav2bold: " not in done.err


def test_the_version_is_told(tmp_path: Path) -> None:
    assert installed("--version", folder=tmp_path) == Done(0, f"wav2bold {version('wav2bold')}\n", "")
