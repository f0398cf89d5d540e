"""The main job from end to end on simulated data, by the steps that a user of real data takes."""

import shlex
from pathlib import Path

from rich.table import Table

from wav2bold import steps
from wav2bold.cluster.connect import connected
from wav2bold.config import Simulation
from wav2bold.errors import DataError
from wav2bold.terminal import out, watching
from wav2bold.trainables.evaluate import Evaluation
from wav2bold.tuning.findings import Findings

MARKER = ".wav2bold-demo"


def demo(folder: Path, seed: int) -> Findings:
    """Simulate, prepare, sweep, best, refine, report, all into `folder`; prints each command.

    A folder that an earlier demo made is gone on with: recordings and shards are kept.
    Raises DataError if the folder holds something else.
    """
    _claim(folder)
    recordings, shards = folder / "recordings", folder / "shards"
    study, best, page = folder / "study.yaml", folder / "best.yaml", folder / "report.html"
    with connected():
        _say("simulate", recordings)
        if recordings.exists():
            out.print("kept from an earlier demo")
        else:
            with watching("simulate") as progress:
                steps.simulate(recordings, Simulation(seed=seed), progress=progress)
        _say("prepare", recordings, "--out", shards)
        with watching("prepare") as progress:
            steps.prepare(recordings, shards, progress=progress)
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
    out.print()
    out.print("[bold]The paper's configuration[/bold]")
    out.print(findings.study.configuration.as_yaml().rstrip(), markup=False)
    out.print(f"[bold]The best configuration found[/bold] (trial {winner.number} of {len(findings.trials)})")
    out.print(winner.configuration.as_yaml().rstrip(), markup=False)
    out.print(_table(findings))
    out.print(f"refined encoders  {folder / 'refined'}/<subject>", markup=False)
    out.print(f"the report        {page}", markup=False)
    out.print(
        f"MLflow's page     mlflow ui --backend-store-uri {shlex.quote(findings.tracking_uri)}",
        markup=False,
        soft_wrap=True,
    )
    return findings


def _claim(folder: Path) -> None:
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARKER).is_file())
    ):
        raise DataError(f"{folder}: is not empty and not a demo's", "choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def _say(*words: object) -> None:
    out.print()
    out.print("[bold cyan]$[/bold cyan] " + shlex.join(["wav2bold", *map(str, words)]), soft_wrap=True)


def _table(findings: Findings) -> Table:
    """Brain scores on the held-out story, a row per subject."""
    story = ", ".join(findings.stories.test)
    table = Table(
        title=f"Brain score on the held-out story ({story}): mean r over targets, fresh ridge",
        title_justify="left",
    )
    for name in ("subject", "frozen", "paper", "best", "gain", "p"):
        table.add_column(name, justify="left" if name == "subject" else "right")
    for subject, evaluation in findings.best.items():
        paper = findings.paper.get(subject)
        table.add_row(
            subject,
            f"{evaluation.scores['frozen']:.3f}",
            f"{paper.scores['ridge']:.3f}" if paper else "not refined",
            f"{evaluation.scores['ridge']:.3f}",
            f"{evaluation.gain_ridge.gain:+.3f}",
            _p(evaluation),
        )
    return table


def _p(evaluation: Evaluation) -> str:
    return f"{evaluation.gain_ridge.p:.1g}"
