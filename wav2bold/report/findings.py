"""What a study found: its sweep from MLflow, its refined encoders scored on the test stories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wav2bold.cluster.connect import connected
from wav2bold.config import Study
from wav2bold.datasets.shards import DatasetCard, open_shards
from wav2bold.datasets.splits import Stories, split_stories
from wav2bold.errors import TrackingError
from wav2bold.evaluation.evaluated import Evaluation, LayerScore
from wav2bold.evaluation.minutes import Efficiency, efficiencies
from wav2bold.evaluation.superb_listing import Scores
from wav2bold.progress import Progress, silent
from wav2bold.report.inside import Inside, inside_of
from wav2bold.report.layer_curves import layer_curves
from wav2bold.report.standing import ENDED, Standing, nothing_finished
from wav2bold.report.testing import evaluations
from wav2bold.trainables.origin import origin_of
from wav2bold.tuning.best import certainty_in, winner_of
from wav2bold.tuning.driving import is_driven
from wav2bold.tuning.outbox import opened
from wav2bold.tuning.remembered import Trial
from wav2bold.tuning.subset_scores import SubsetScore, averaged, subset_folders, subset_score
from wav2bold.tuning.superb_kept import superb_scores

KINDS = ("refined", "refined-paper", "pretrained")
"""Folders that `refine` writes for the best configuration, the paper's, and the control."""


@dataclass(frozen=True)
class Findings:
    """All that a report tells.

    trials: of the newest sweep, by number; the first is the paper's configuration.
    best: scores of each subject's encoder refined with the best configuration, empty if none was yet: then
    nothing is tested; paper: likewise with the paper's, empty if that was not refined.
    pretrained: likewise of encoders trained on the stimuli alone, the control; empty if there is none.
    targets: per subject a row per target, with hemisphere and vertex or x_mm, y_mm, z_mm, and the noise
    ceiling of one recording.
    subsets: what refining each subset of parameters brought, means over its subjects; empty if none was.
    certainty: how sure the sweep was that its best trial betters the first; "" if it didn't say.
    inside: what refinement with the best configuration did inside each subject's encoder.
    layers: scores of every hidden state before and after; empty if they weren't asked for.
    standing: whether the sweep still runs.  efficiency: what minutes are worth, of whom that is known.
    superb: scores in speech tasks by encoder, then task; empty where nobody said where they are.
    """

    study: Study
    card: DatasetCard
    stories: Stories
    tracking_uri: str
    sweep: str
    trials: tuple[Trial, ...]
    best: dict[str, Evaluation]
    paper: dict[str, Evaluation]
    targets: dict[str, pd.DataFrame]
    subsets: tuple[SubsetScore, ...] = ()
    certainty: str = ""
    standing: Standing = ENDED
    pretrained: dict[str, Evaluation] = field(default_factory=dict)
    efficiency: tuple[Efficiency, ...] = ()
    inside: Mapping[str, Inside] = field(default_factory=dict)
    layers: tuple[LayerScore, ...] = ()
    superb: Scores = field(default_factory=dict)

    @property
    def winner(self) -> Trial:
        """The finished trial with the highest brain score on the validation stories."""
        winner = winner_of(self.trials)
        assert winner is not None, "find gives no findings without a winner"
        return winner

    def ceiling(self, subject: str) -> NDArray[np.float64]:
        """(V,) noise ceiling per target of one recording; NaN where nothing was repeated."""
        return np.asarray(self.targets[subject]["ceiling"], np.float64)


def find(
    study: Study,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    *,
    layers: bool = True,
    superb: Path | None = None,
) -> Findings:
    """Gather a study's findings; the only place that touches the test stories.

    Refined encoders are read from `refined/<subject>`, `refined-paper/<subject>` and `pretrained/<subject>`
    in the results folder; without the first nothing is tested, and the findings are
    the sweep's. Of subsets, refined with the best configuration or else the paper's, the validation scores
    are told.
    layers: whether every hidden state is scored, too.  superb: folder of `wav2bold superb`.
    Raises DataError if that holds no scores, TrackingError if there is no sweep, or none of its trials has
    finished.
    """
    spoken = superb_scores(superb) if superb is not None else {}
    shards = open_shards(study.shards)
    stories = split_stories(study.split, shards.card)
    tracker = opened(study, make=False)
    sweep = tracker.newest_sweep()
    trials = tuple(tracker.trials(sweep))
    winner = winner_of(trials)
    if winner is None:
        raise TrackingError(
            f"no trial of the newest sweep of {study.name} has finished ({nothing_finished(trials)})",
            "wait for one, or see to what went wrong and sweep again",
        )
    folders = {kind: refined_in(study.results / kind) for kind in KINDS}
    found: dict[str, dict[str, Evaluation]] = {kind: {} for kind in folders}
    curves: tuple[LayerScore, ...] = ()
    if folders["refined"]:
        with connected(address, cpus):
            found = evaluations(study, stories, folders, progress)
            curves = layer_curves(study, stories, folders["refined"], progress) if layers else ()
    return Findings(
        study=study,
        card=shards.card,
        stories=stories,
        tracking_uri=tracker.uri,
        sweep=sweep,
        trials=trials,
        best=found["refined"],
        paper=found["refined-paper"],
        pretrained=found["pretrained"],
        targets={subject: shards.targets(subject) for subject in found["refined"]},
        subsets=_subsets(study),
        certainty=certainty_in(tracker.tags_of(sweep), winner),
        efficiency=efficiencies(study, shards.card.digest),
        standing=Standing(tracker.status_of(sweep), is_driven(study)),
        inside={subject: inside_of(folder) for subject, folder in sorted(folders["refined"].items())},
        layers=curves,
        superb=spoken,
    )


def _subsets(study: Study) -> tuple[SubsetScore, ...]:
    roots = (study.results / f"{kind}-subsets" for kind in ("refined", "refined-paper"))
    folders = next(filter(None, map(subset_folders, roots)), [])
    return tuple(averaged(map(subset_score, folders)))


def refined_in(root: Path) -> dict[str, Path]:
    """Folders below `root` that hold a refined encoder, by subject."""
    found = {}
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        origin = origin_of(folder)
        if origin is not None:
            found[str(origin["subject"])] = folder.resolve()
    return found
