"""What encoders were found to do on the test stories; read without what computes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.per_target import PerTarget
from wav2bold.evaluation.regions import RegionScore
from wav2bold.trainables.scores import Gain, brain_score


@dataclass(frozen=True)
class Evaluation:
    """Scores of one subject on the test stories.

    frozen: (V,) r of the pretrained encoder with a ridge head, at the refinement's own history.
    ridge: (V,) r of the refined encoder with a ridge fitted afresh on the training stories.
    head: (V,) r of the refined encoder with the head that was trained with it.
    gain_ridge, gain_head: against frozen, paired over blocks of time.
    intervals: of the brain scores frozen, ridge and head, and of the gains gain_ridge and gain_head.
    r2: (V,) explained variance of frozen, ridge and head.
    white: (V,) r of frozen, ridge and head after both sides were multiplied by what makes the noise white;
    r itself where it was refined without a model of noise.
    predicted: (V,) whether chance explains no such r, of frozen and ridge; improved: (V,) likewise, that
    ridge is above frozen; each with a false discovery rate of 5% over targets.  volumes: in the test.
    regions: scores of each that has a name; empty where none has.
    """

    subject: str
    history: int
    frozen: NDArray[np.float64]
    ridge: NDArray[np.float64]
    head: NDArray[np.float64]
    gain_ridge: Gain
    gain_head: Gain
    intervals: Mapping[str, Interval]
    r2: Mapping[str, NDArray[np.float64]]
    white: Mapping[str, NDArray[np.float64]]
    predicted: Mapping[str, NDArray[np.bool_]]
    improved: NDArray[np.bool_]
    volumes: int
    folder: Path
    regions: Mapping[str, RegionScore] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """Brain scores: mean r over targets."""
        return {name: brain_score(getattr(self, name)) for name in ("frozen", "ridge", "head")}


@dataclass(frozen=True)
class LayerScore:
    """One hidden state of one encoder on one subject's test stories.

    layer: 0 is the input of the first transformer layer.  region: None for all targets.  score: mean Pearson
    r over targets; its interval is NaN unless it was asked for.
    """

    encoder: str
    subject: str
    layer: int
    region: str | None
    score: Interval


@dataclass(frozen=True)
class Scored:
    """One encoder on one subject's test stories.

    layer: the hidden state that was read by itself, None for what the configuration reads.  region: None for
    all targets.  score: mean Pearson r over targets.  of_ceiling: that as a share of the mean noise ceiling,
    NaN where there is none.  r2: mean explained variance.  predicted: targets whose r chance doesn't explain,
    of so many targets, with a false discovery rate of 5% over the subject's.  volumes: in the test.
    per_target: scores of all targets; None for a region.
    """

    encoder: str
    subject: str
    layer: int | None
    region: str | None
    score: Interval
    of_ceiling: float
    r2: float
    predicted: int
    targets: int
    volumes: int
    per_target: PerTarget | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Beyond:
    """One encoder beside log-mel energies and envelope, on one subject's test stories.

    low_level, alone, both: brain scores of ridge on the low-level features, on the encoder's, and of banded
    ridge on the two, each with penalties chosen alike.  gain: of both over low_level.
    unique_r2: mean explained variance of both less that of low_level: what only the encoder explains.
    improved: targets better predicted by both than by low_level, of so many targets, with a false discovery
    rate of 5%.  volumes: in the test.
    """

    encoder: str
    subject: str
    low_level: Interval
    alone: Interval
    both: Interval
    gain: Interval
    unique_r2: float
    improved: int
    targets: int
    volumes: int
