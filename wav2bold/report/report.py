"""A study's report: its refined encoders tested once, and one page about it."""

from collections import defaultdict
from pathlib import Path

from wav2bold.config import Study
from wav2bold.errors import DataError
from wav2bold.evaluation.across_subjects import summary
from wav2bold.options import write_whole
from wav2bold.progress import Progress, silent
from wav2bold.report.findings import Findings, find
from wav2bold.trainables.scores import brain_score
from wav2bold.tuning.tracking import Tracker


def report(
    study: Study,
    out: Path,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    *,
    layers: bool = True,
    interactive: bool = True,
    superb: Path | None = None,
) -> Findings:
    """Score the refined encoders on the test stories and write the page `out`; gives all that is in it.

    layers: whether every hidden state is scored, too.  interactive: as for `render`.  superb: folder of
    `wav2bold superb`, whose table the page then shows. The scores and the page are also logged under the
    sweep's run in MLflow. Where nothing is refined yet, or the sweep still runs, the page says so and shows
    what there is.
    Raises DataError if `out` is a folder or `superb` holds no scores, TrackingError if there is no sweep with
    a finished trial.
    """
    out = Path(out)
    if out.is_dir():
        raise DataError(f"{out}: is a folder", "give a file, such as report.html")
    findings = find(study, address, cpus, progress, layers=layers, superb=superb)
    progress("drawing the page", 0, 0)
    from wav2bold.report.page import render  # what draws takes no memory beside the tests

    write_whole(out, render(findings, interactive=interactive))
    tracker = Tracker(study)
    scores = scores_by_name(findings)
    if scores:
        tracker.metrics(findings.sweep, scores, step=0)
    tracker.artifact(findings.sweep, out)
    return findings


def scores_by_name(findings: Findings) -> dict[str, float]:
    """Scores, gains and their certainty by their names in MLflow: `test.best.sub-001.gain_ridge`.

    Of hidden states the mean over subjects: `test.layers.refined.12`.
    """
    metrics: dict[str, float] = {}
    for kind, evaluations in (
        ("best", findings.best),
        ("paper", findings.paper),
        ("pretrained", findings.pretrained),
    ):
        for subject, one in evaluations.items():
            ends = {
                f"{name}_{end}": getattr(interval, end)
                for name, interval in one.intervals.items()
                for end in ("low", "high")
            }
            numbers = one.scores | {
                "gain_ridge": one.gain_ridge.gain,
                "p_ridge": one.gain_ridge.p,
                "gain_head": one.gain_head.gain,
                "p_head": one.gain_head.p,
                "r2_frozen": brain_score(one.r2["frozen"]),
                "r2_ridge": brain_score(one.r2["ridge"]),
                "predicted_frozen": float(one.predicted["frozen"].sum()),
                "predicted_ridge": float(one.predicted["ridge"].sum()),
                "improved": float(one.improved.sum()),
            }
            metrics |= {f"test.{kind}.{subject}.{name}": value for name, value in (numbers | ends).items()}
    by_state: dict[str, list[float]] = defaultdict(list)
    for state in findings.layers:
        if state.region is None:
            by_state[f"test.layers.{state.encoder}.{state.layer}"].append(state.score.value)
    return metrics | {name: summary(values).mean.value for name, values in by_state.items()}
