"""Noise ceiling: how well a perfect model of the stimulus could predict a recording.

From repeats: the mean correlation r of recordings of one story is the share of a recording's variance that
repeats, and a model of the stimulus can reach its root. Explainable variance, as labs compute it for repeated
stories (1 - var(residual) / var(recording), less its bias for few repeats: Schoppe et al. 2016), is the same
number when each recording is z-scored over the volumes compared.

From other people, where nothing was repeated: see `shared_share`.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wav2bold.datasets.shards import Bold, match_repeats

BLOCK = 2_048
"""Targets compared together, in float64: few enough to stay in a processor's cache."""


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


def others_correlation(
    recordings: Sequence[Callable[[], NDArray[np.float32]]], targets: Sequence[NDArray[np.int64]]
) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Correlation of each person's recording with the mean of all others' (leave one subject out).

    recordings: each gives (volumes, V) of one person, matched row by row; each is asked twice, and only one
    is in memory at a time.  targets: for each person (V,) ascending numbers that mean the same target in all.
    Returns for each person (V,) r, and (V,) how many others have that target; NaN where that is none.
    """
    known = np.unique(np.concatenate(targets))
    columns = [np.searchsorted(known, own) for own in targets]
    total, people = np.zeros((0, 0), np.float32), np.zeros(len(known), np.int64)
    for read, own in zip(recordings, columns, strict=True):
        y = read()
        if not total.size:
            total = np.zeros((len(y), len(known)), np.float32)
        for block in _blocks(len(own)):
            unit = _unit(y[:, block])
            varies = np.isfinite(unit).all(axis=0)
            total[:, own[block][varies]] += unit[:, varies]
            people[own[block][varies]] += 1
    found = []
    for read, own in zip(recordings, columns, strict=True):
        y, r, others = read(), np.empty(len(own)), np.empty(len(own), np.int64)
        for block in _blocks(len(own)):
            unit = _unit(y[:, block])
            others[block] = people[own[block]] - np.isfinite(unit).all(axis=0)
            rest = np.where(others[block] > 0, total[:, own[block]] - unit, np.nan)
            r[block] = np.einsum("tv,tv->v", unit, rest) / np.linalg.norm(rest, axis=0)
        found.append((r, others))
    return found


def _blocks(targets: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, targets, BLOCK)]


def shared_share(r: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Share of a recording's variance that all people share, from its correlation with the mean of others.

    r: that correlation.  others: how many were averaged. A mean of few still holds their noise: with an equal
    share s in everybody, r = s / sqrt(s + (1 - s) / others), solved for s here; r below 0 gives s below 0.
    The root of s is a lower bound of the noise ceiling: what a person's brain makes of a story each time, but
    others' don't, can be predicted too and is not in it (Nili et al. 2014 take r itself, a lower one still).
    """
    r, others = np.asarray(r, np.float64), np.asarray(others, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # nobody else: NaN
        half = r**2 * (1 - 1 / others) / 2
        share: NDArray[np.float64] = np.sign(r) * (half + np.sqrt(half**2 + r**2 / others))
    return share


def _unit(y: NDArray[np.float32]) -> NDArray[np.float64]:
    centred = y - y.mean(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # 0 / 0: a constant recording has no correlation
        unit: NDArray[np.float64] = centred / np.linalg.norm(centred, axis=0)
    return unit
