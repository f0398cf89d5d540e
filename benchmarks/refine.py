"""What a refinement costs, stage by stage, beside what a lab would run in its place.

`python benchmarks/refine.py` measures every figure; with a name it measures that one.

stage1_20_subjects_speedup: stage 1 of 20 subjects who heard the same stories, over a fit of himalaya's
RidgeCV for each of them: the same folds, penalties and score, its default solver (svd), features in float32
as a lab has them, all cores on both sides. Penalties chosen and predictions must be the same, or it fails.

stage2_*_speedup: a step of stage 2 from the second epoch on, of wav2vec2-base's shape and 8 windows of 9 s,
over the loop that published code runs: every window through the whole encoder at every step. top2: attention
and feed-forward of the upper two layers unfrozen; all_layers: of all.
stage2_stretch_speedup: an epoch of windows over one of stretches of 60 s, all layers unfrozen: seconds for
each volume. benchmarks/recovery.py has what either learns.
joint_8_subjects_cost: a step for eight subjects together, of 1,000 targets each, over a step for one of them;
the upper two layers unfrozen. The plain loop takes a pass for each.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _figures import show
from _steps import HISTORY, KINDS, TR_S, Size, made, our_step, plain_step, timed
from himalaya.ridge import RidgeCV
from himalaya.scoring import correlation_score
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import StandardScaler

from wav2bold.config import Configuration
from wav2bold.trainables.ridge import Head, decompose

SUBJECTS, VOLUMES, FEATURES, TARGETS, STORIES = 20, 3000, 4608, 2000, 5
"""Features: six TRs of a base-size wav2vec2. 3,000 volumes are 75 minutes at 1.5 s."""
ALPHAS = tuple(np.logspace(0, 6, 15))
PEERS = 2
"""Subjects whom himalaya fits; the others would take it as long."""
REPEATS = 3
"""Fewer than five: one takes four to eight minutes."""
BASE, STEP_REPEATS = Size(12, 768, 512, 8, 1, 48.0, 1000), 5
STRETCH = Size(12, 768, 512, 8, 1, 60.0, 1000)

Array = NDArray[np.float32]


def main() -> None:
    figures: dict[str, Callable[[], None]] = {
        "stage1_20_subjects_speedup": stage1_20_subjects,
        "stage2_top2_speedup": partial(stage2, "stage2_top2_speedup", (10, 11)),
        "stage2_all_layers_speedup": partial(stage2, "stage2_all_layers_speedup", (0, 11)),
        "stage2_stretch_speedup": stretches,
        "joint_8_subjects_cost": joint_8_subjects,
    }
    wanted = sys.argv[1:] or list(figures)
    if unknown := [name for name in wanted if name not in figures]:
        sys.exit(f"no figure {unknown[0]}; known here: {', '.join(figures)}")
    for name in wanted:
        figures[name]()


def stage1_20_subjects() -> None:
    features, latent = heard()
    story = np.array([f"story{number}" for number in np.arange(VOLUMES) * STORIES // VOLUMES])
    speedups = []
    for _ in range(REPEATS):
        heads, ours = shared(features, latent, story)
        theirs = [
            alone(features, measured(latent, subject), story, heads[subject]) for subject in range(PEERS)
        ]
        speedups.append(np.mean(theirs) * SUBJECTS / ours)
    show("stage1_20_subjects_speedup", speedups, "x")


def stage2(figure: str, layers: tuple[int, int]) -> None:
    cpu = torch.device("cpu")
    encoder, shards = made(BASE, cpu)
    options = configuration(layers)
    with tempfile.TemporaryDirectory() as folder:
        ours, _ = our_step(Path(folder), encoder, shards, options)
        plain = plain_step(encoder, shards, options)
        ours()
        plain()
        speedups = []
        for _ in range(STEP_REPEATS):
            mine, peers = timed(ours, cpu), timed(plain, cpu)
            print(f"  {figure}: {mine:.2f} s, plain loop {peers:.2f} s", file=sys.stderr)
            speedups.append(peers / mine)
    show(figure, speedups, "x")


def stretches() -> None:
    cpu = torch.device("cpu")
    alone = configuration((0, 11))
    together = alone.model_copy(update={"context": "stretch", "stretch_s": STRETCH.seconds})
    with tempfile.TemporaryDirectory() as folder:
        encoder, shards = made(STRETCH, cpu)
        one, _ = our_step(Path(folder), encoder, shards, alone)
        other, _ = our_step(Path(folder), encoder, shards, together)
        volumes = round((STRETCH.seconds / TR_S) - HISTORY) + 1
        speedups = []
        for _ in range(STEP_REPEATS):
            window_s, stretch_s = timed(one, cpu) / alone.batch, timed(other, cpu) / volumes
            print(f"  a volume by window {window_s:.2f} s, in a stretch {stretch_s:.2f} s", file=sys.stderr)
            speedups.append(window_s / stretch_s)
    show("stage2_stretch_speedup", speedups, "x")


def joint_8_subjects() -> None:
    cpu = torch.device("cpu")
    options = configuration((10, 11))
    with tempfile.TemporaryDirectory() as folder:
        together, alone = (our_step(Path(folder), *made(BASE, cpu, people), options)[0] for people in (8, 1))
        together()
        alone()
        costs = [timed(together, cpu) / timed(alone, cpu) for _ in range(STEP_REPEATS)]
    show("joint_8_subjects_cost", costs, "x")


def configuration(layers: tuple[int, int]) -> Configuration:
    return Configuration(
        history=HISTORY, unfrozen=dict.fromkeys(KINDS, layers), batch=BASE.batch, epochs=1000
    )


def heard() -> tuple[Array, Array]:
    """Features that go together, and what is behind them: the k-th of it has a variance of 1/k."""
    random = np.random.default_rng(0)
    sd = np.arange(1, FEATURES + 1, dtype=np.float32) ** -0.5
    latent = random.standard_normal((VOLUMES, FEATURES), np.float32) * sd
    return latent @ random.standard_normal((FEATURES, FEATURES), np.float32), latent


def measured(latent: Array, subject: int) -> Array:
    """A subject's targets: none to four fifths of their variance is linear in what is behind the features."""
    random = np.random.default_rng([1, subject])
    signal = latent @ random.standard_normal((FEATURES, TARGETS), np.float32)
    share = np.linspace(0, 0.8, TARGETS, dtype=np.float32)
    noise = random.standard_normal((VOLUMES, TARGETS), np.float32)
    return signal / signal.std(0) * np.sqrt(share) + noise * np.sqrt(1 - share)


def shared(features: Array, latent: Array, story: NDArray[np.str_]) -> tuple[list[Head], float]:
    """Heads of the subjects that are compared, and seconds of all."""
    begun = time.perf_counter()
    decomposition = decompose(features, story, ALPHAS)
    seconds = time.perf_counter() - begun
    heads = []
    for subject in range(SUBJECTS):
        y = measured(latent, subject)
        begun = time.perf_counter()
        head = decomposition.fit(y)
        seconds += time.perf_counter() - begun
        if subject < PEERS:
            heads.append(head)
    print(f"  {SUBJECTS} subjects together {seconds:.1f} s", file=sys.stderr)
    return heads, seconds


def alone(features: Array, y: Array, story: NDArray[np.str_], head: Head) -> float:
    """Seconds of himalaya's fit of one subject, whose head must be the same."""
    model = RidgeCV(
        ALPHAS,
        fit_intercept=True,
        cv=PredefinedSplit(np.unique(story, return_inverse=True)[1]),
        solver_params={"score_func": correlation_score, "warn": False},
    )
    begun = time.perf_counter()
    standard = StandardScaler().fit_transform(features)
    model.fit(standard, y)
    seconds = time.perf_counter() - begun
    apart = np.abs(model.predict(standard) - head.predict(features)).max()
    others = int((~np.isclose(model.best_alphas_, head.alpha, rtol=1e-3)).sum())
    print(
        f"  himalaya {seconds:.1f} s; {len(set(head.alpha))} penalties chosen, {others} otherwise; "
        f"predictions within {apart:.1e}",
        file=sys.stderr,
    )
    assert others == 0
    assert apart < 1e-4
    return seconds


if __name__ == "__main__":
    main()
