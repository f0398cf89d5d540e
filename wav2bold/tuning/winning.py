"""How sure it is that a sweep's best trial betters its first one, the paper's, on the validation stories."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wav2bold.config import Study
from wav2bold.datasets.shards import Shards
from wav2bold.datasets.splits import split_stories
from wav2bold.datasets.windows import windows
from wav2bold.evaluation.across_subjects import summary
from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.significance import LEVEL, significant
from wav2bold.evaluation.versus import Versus, versus
from wav2bold.options import whole
from wav2bold.pages.words import count, decimals
from wav2bold.progress import Progress, silent
from wav2bold.tuning.kept import Kept, kept_of
from wav2bold.tuning.outbox import Outbox
from wav2bold.tuning.remembered import CERTAINTY, WINNER
from wav2bold.tuning.workshop import longest_history

TABLE = "winner.parquet"
"""The artifact: a row per target."""


def remember_winner(
    study: Study,
    shards: Shards,
    subjects: Sequence[str],
    box: Outbox,
    sweep: str,
    winner: int,
    progress: Progress = silent,
) -> str:
    """Compare a sweep's best trial with its first and write that to its run in MLflow; a sentence on it.

    subjects: whom the trials refined.  winner: the best one's number.
    Metrics and tags begin with `winner`; the table has r of both, p and whether a target is better, of each.
    """
    tags, metrics = {WINNER: str(winner)}, dict[str, float]()
    if winner == 0:
        told = "the best is the paper's configuration itself"
    else:
        found = compared(study, shards, subjects, kept_of(study, sweep), winner, progress)
        if found is None:
            told = (
                f"whether trial {winner} betters the paper's configuration is not known: the predictions of "
                "one of them are gone from the results folder"
            )
        else:
            better = _better(found)
            gain, p = mean_gain(found)
            told = sentence(winner, better, gain, p, len(found))
            metrics = _metrics(found, better, gain, p)
            path = kept_of(study, sweep).folder / TABLE
            with whole(path) as partial:
                pq.write_table(table(found), partial)
            box.artifact(sweep, path)
    box.tags(sweep, tags | {CERTAINTY: told})
    if metrics:
        box.metrics(sweep, metrics, step=winner)
    return told


def compared(
    study: Study, shards: Shards, subjects: Sequence[str], kept: Kept, winner: int, progress: Progress
) -> dict[str, Versus] | None:
    """Each subject's comparison of the winner with trial 0; None if a prediction isn't there any more."""
    stories, longest = split_stories(study.split, shards.card), longest_history(study)
    found = dict[str, Versus]()
    for subject in subjects:
        progress(f"comparing with the paper's configuration: {subject}", len(found), len(subjects))
        before, after = (kept.prediction(number, subject) for number in (0, winner))
        if before is None or after is None:
            return None
        heard = windows(shards, [subject], stories.validation, longest)
        found[subject] = versus(heard.y, before, after, heard.story, shards.card.tr_s)
    return found


def mean_gain(found: Mapping[str, Versus]) -> tuple[Interval, float]:
    """The mean over targets of the gain in r, with its interval and p.

    Of one subject over blocks of time; of several over subjects, each of whom counts once.
    """
    if len(found) == 1:
        (one,) = found.values()
        return one.interval, one.gain.p
    told = summary([one.gain.gain for one in found.values()])
    return told.mean, told.p


def table(found: Mapping[str, Versus]) -> pa.Table:
    """A row per target: subject, target, r_paper, r_best, gain, p and better.

    p is one-sided and of the target alone; better has a false discovery rate of 5% over all rows.
    """
    many = list(found.values())
    before, after = (np.concatenate([getattr(one, name) for one in many]) for name in ("before", "after"))
    return pa.table(
        {
            "subject": np.repeat(list(found), [len(one.p) for one in many]),
            "target": np.concatenate([np.arange(len(one.p), dtype=np.int32) for one in many]),
            "r_paper": before.astype(np.float32),
            "r_best": after.astype(np.float32),
            "gain": (after - before).astype(np.float32),
            "p": np.concatenate([one.p for one in many]).astype(np.float32),
            "better": _better(found),
        }
    )


def sentence(winner: int, better: NDArray[np.bool_], gain: Interval, p: float, subjects: int) -> str:
    """What is told at the end of a sweep. better: (V,) of all subjects' targets."""
    sure = []
    if math.isfinite(gain.low):
        sure.append(f"95% interval {decimals(gain.low, 4)} to {decimals(gain.high, 4)}")
    if math.isfinite(p):
        sure.append("p < 0.001" if p < 0.001 else f"p = {p:.3f}")
    if sure and subjects > 1:
        sure.append(f"Student's t and one-sided Wilcoxon test over {subjects} subjects")
    elif sure:
        sure.append("over blocks of time, one-sided sign-flip test")
    return (
        f"trial {winner} against the paper's configuration: targets better at FDR q {LEVEL:g}: "
        f"{int(better.sum()):,} of {count(len(better), 'target')}; mean gain {decimals(gain.value, 4)}"
        + (f" ({', '.join(sure)})" if sure else "")
        + "; it was chosen on these same stories, so the test stories decide"
    )


def _better(found: Mapping[str, Versus]) -> NDArray[np.bool_]:
    return significant(np.concatenate([one.p for one in found.values()]))


def _metrics(
    found: Mapping[str, Versus], better: NDArray[np.bool_], gain: Interval, p: float
) -> dict[str, float]:
    metrics = {
        "targets_better": float(better.sum()),
        "targets": float(len(better)),
        "gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "p": p,
    }
    for subject, one in found.items():
        metrics |= {
            f"{subject}.gain": one.gain.gain,
            f"{subject}.gain_low": one.interval.low,
            f"{subject}.gain_high": one.interval.high,
            f"{subject}.p": one.gain.p,
        }
    return {f"winner.{name}": value for name, value in metrics.items()}
