"""The main job from end to end on simulated data, by the steps that a user of real data takes."""

import shlex
import sys
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from wav2bold import steps
from wav2bold.cluster.connect import connected
from wav2bold.config import Configuration, Simulation
from wav2bold.errors import DataError
from wav2bold.options import check_folder
from wav2bold.report.findings import Findings
from wav2bold.terminal import out, watching
from wav2bold.tuning.remembered import Trial

MARKER = ".wav2bold-demo"


def demo(folder: Path, seed: int) -> Findings:
    """Simulate, prepare, sweep, best, refine, report, all into `folder`; prints each command.

    A folder that an earlier demo made is gone on with: recordings and shards are kept.
    Raises DataError if the folder holds something else.
    """
    _claim(folder)
    recordings, shards = folder / "recordings", folder / "shards"
    study, best, page = folder / "study.yaml", folder / "best.yaml", folder / "report.html"
    _say("simulate", recordings)
    if recordings.exists():
        out.print("kept from an earlier demo")
    else:
        with watching("simulate") as progress:
            steps.simulate(recordings, Simulation(seed=seed), progress=progress)
    _say("prepare", recordings, "--out", shards)
    with watching("prepare") as progress:
        steps.prepare(recordings, shards, progress=progress, strict=True)
    with connected():  # one for the steps to come, and without what Ray Data leaves in memory
        _say("sweep", study)
        with watching("sweep") as progress:
            steps.sweep(study, progress=progress)
        _say("best", study, "--out", best)
        winner = steps.best(study, best)
        _say("refine", study, "--config", best, "--subjects", "all")
        with watching("refine") as progress:
            steps.refine(study, best, progress=progress)
        _say("refine", study, "--config", "paper", "--subjects", "all")
        with watching("refine") as progress:
            steps.refine(study, "paper", progress=progress)
        _say("report", study, "--out", page)
        with watching("report") as progress:
            findings = steps.report(study, page, progress=progress)
    _conclude(findings, winner, folder, page)
    return findings


def _claim(folder: Path) -> None:
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise DataError(f"{folder}: is not empty and not a demo's", "choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def _say(*words: object) -> None:
    out.print()
    out.print(
        "[bold cyan]$[/bold cyan] " + escape(shlex.join(["wav2bold", *map(str, words)])), soft_wrap=True
    )


def _conclude(findings: Findings, winner: Trial, folder: Path, page: Path) -> None:
    """The answer: both configurations, their scores, and where everything is."""
    out.print()
    out.print(_configurations(findings.study.configuration, winner.configuration))
    out.print()
    out.print(_scores(findings))
    out.print()
    for what, where in (
        ("refined encoders", f"{folder / 'refined'}/<subject>"),
        ("report", str(page)),
        ("MLflow's page", shlex.join([_mlflow(), "ui", "--backend-store-uri", findings.tracking_uri])),
    ):
        out.print(f"{what:<18}{where}", markup=False, soft_wrap=True)


def _configurations(paper: Configuration, best: Configuration) -> Table:
    """The two configurations side by side, as far as they differ."""
    table = Table(title="Configurations", title_justify="left")
    for name in ("option", "paper's", "best found"):
        table.add_column(name)
    for key, value in paper.model_dump(mode="json").items():
        other = best.model_dump(mode="json")[key]
        if key == "history" or value != other:
            table.add_row(key, _shown(value), _shown(other))
    return table


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            kind if layers is None else f"{kind} (layers {layers[0]} to {layers[1]})"
            for kind, layers in value.items()
        )
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _scores(findings: Findings) -> Table:
    """Brain scores on the held-out story, a row per subject."""
    story = ", ".join(findings.stories.test)
    table = Table(
        title=f"Brain score (mean r over targets) on the held-out story: {story}",
        caption="paper's, best: a ridge fitted afresh on the refined encoder; head: the trained one.\n"
        "gain: best less frozen; p: paired over blocks of 15 s, one-sided.",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("subject", "frozen", "paper's", "best", "head", "ceiling", "gain", "p"):
        table.add_column(name, justify="left" if name == "subject" else "right")
    for subject, one in findings.best.items():
        paper = findings.paper.get(subject)
        ceiling = float(np.nanmean(findings.ceiling(subject)))
        table.add_row(
            subject,
            f"{one.scores['frozen']:.3f}",
            f"{paper.scores['ridge']:.3f}" if paper else "not refined",
            f"{one.scores['ridge']:.3f}",
            f"{one.scores['head']:.3f}",
            f"{ceiling:.3f}",
            f"{one.gain_ridge.gain:+.3f}",
            f"{one.gain_ridge.p:.1g}",
        )
    return table


def _mlflow() -> str:
    """The mlflow command that belongs to this Python."""
    beside = Path(sys.executable).with_name("mlflow")
    if not beside.is_file():
        return "mlflow"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
