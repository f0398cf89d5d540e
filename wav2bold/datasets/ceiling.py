"""Noise ceiling: how well a perfect model of the stimulus could predict a recording."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wav2bold.datasets.shards import Bold, match_repeats


def repeat_correlation(recordings: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Pearson r between recordings of the same story, mean over all pairs, below 0 set to 0.

    recordings: two or more (volumes, targets), matched row by row.  Returns (targets,); NaN where a recording
    is constant, or shorter than 3 volumes.
    """
    if len(recordings[0]) < 3:
        return np.full(recordings[0].shape[1], np.nan)
    scored = [_unit(y) for y in recordings]
    pairs = [np.einsum("tv,tv->v", one, other) for one, other in combinations(scored, 2)]
    mean: NDArray[np.float64] = np.mean(pairs, axis=0)
    return np.maximum(mean, 0.0)


def ceiling(r: ArrayLike, recordings: int) -> NDArray[np.float64]:
    """Highest correlation that a model of the stimulus can reach with a mean of `recordings` recordings.

    r: correlation between two single recordings, 0 to 1.
    The reliability of a mean is Spearman and Brown's (1910); its root is the correlation with the part that
    recordings share (Hsu et al. 2004; Schoppe et al. 2016).
    """
    single = np.asarray(r, dtype=np.float64)
    return np.sqrt(recordings * single / (1 + (recordings - 1) * single))


def subject_ceiling(stories: Sequence[Sequence[Bold]], seconds: Sequence[float]) -> NDArray[np.float64]:
    """Ceiling of one recording per target: (targets,), NaN where no story was repeated.

    stories: recordings of each story a subject heard, of which only volumes within the story count.
    seconds: length of each story.  Several repeated stories are averaged by their number of volumes.
    """
    targets = stories[0][0].y.shape[1]
    total, volumes = np.zeros(targets), 0
    for repeats, length in zip(stories, seconds, strict=True):
        if len(repeats) < 2:
            continue
        heard = []
        for bold, rows in zip(repeats, match_repeats(list(repeats)), strict=True):
            inside = (bold.time_s[rows] >= 0) & (bold.time_s[rows] <= length)
            heard.append(bold.y[rows[inside]])
        total += len(heard[0]) * repeat_correlation(heard)
        volumes += len(heard[0])
    return ceiling(total / volumes, 1) if volumes else np.full(targets, np.nan)


def _unit(y: NDArray[np.float32]) -> NDArray[np.float64]:
    centred = y - y.mean(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # 0 / 0: a constant recording has no correlation
        unit: NDArray[np.float64] = centred / np.linalg.norm(centred, axis=0)
    return unit
