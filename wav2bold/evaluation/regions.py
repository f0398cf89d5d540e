"""Brain scores of regions before and after refinement."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wav2bold.evaluation.intervals import Interval, Resampled


@dataclass(frozen=True)
class RegionScore:
    """One region of one subject on the test stories.

    frozen, refined: brain scores, mean r over its targets.  gain: refined less frozen.
    targets: how many it has.  predicted: of them by refined, and improved: by refined more than by frozen,
    where chance doesn't explain it, with a false discovery rate of 5% over all targets of the subject.
    """

    frozen: Interval
    refined: Interval
    gain: Interval
    targets: int
    predicted: int
    improved: int


def members_of(regions: Mapping[str, NDArray[np.bool_]], targets: int) -> dict[str | None, NDArray[np.bool_]]:
    """(V,) which targets are counted: all, by the name None, and then those of each region."""
    members: dict[str | None, NDArray[np.bool_]] = {None: np.ones(targets, bool)}
    members.update(regions)
    return members


def region_scores(
    regions: Mapping[str, NDArray[np.bool_]],
    drawn: Resampled,
    predicted: NDArray[np.bool_],
    improved: NDArray[np.bool_],
) -> dict[str, RegionScore]:
    """By the regions' names. drawn: of predictions frozen and refined, of all that `members_of` gives.

    predicted, improved: (V,) whether chance doesn't explain a target's r and gain.
    """
    return {
        name: RegionScore(
            frozen=drawn.interval(0, number),
            refined=drawn.interval(1, number),
            gain=drawn.interval(1, number, minus=0),
            targets=int(inside.sum()),
            predicted=int(predicted[inside].sum()),
            improved=int(improved[inside].sum()),
        )
        for number, (name, inside) in enumerate(regions.items(), start=1)
    }
