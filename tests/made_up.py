"""Findings as a study might have them, without a study."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wav2bold.config import Configuration, Study
from wav2bold.datasets.shards import DatasetCard, StoryCard, SubjectCard
from wav2bold.datasets.splits import Stories
from wav2bold.evaluation.evaluated import Evaluation, LayerScore
from wav2bold.evaluation.intervals import Interval
from wav2bold.report.findings import Findings
from wav2bold.report.inside import Inside
from wav2bold.trainables.scores import Gain
from wav2bold.trainables.superb.protocol import Score
from wav2bold.tuning.remembered import Trial

CLIPS, STATES = 300, 13
"""Test utterances and hidden states of made-up scores in speech tasks."""
STORIES = ("bakery", "clockmaker", "ferry", "library", "lighthouse")


def findings(subjects: int = 2, space: str = "fsaverage5", targets: int = 280, trials: int = 12) -> Findings:
    random = np.random.default_rng(7)
    names = [f"sub-{number + 1:03d}" for number in range(subjects)]
    study = Study(
        name="listeners",
        shards=Path("shards"),
        encoder="encoder",
        split={"validation": ("library",), "test": ("lighthouse",)},
    )
    card = DatasetCard(
        tr_s=1.5,
        space=space,
        subjects={name: SubjectCard(targets, dict.fromkeys(STORIES, 1) | {"library": 2}) for name in names},
        stories={name: StoryCard(300.0, "0" * 32) for name in STORIES},
        cleaning=study.cleaning.model_dump(mode="json"),
        inputs={},
        libraries={},
        digest="a" * 32,
    )
    where = places(space, targets)
    best = {name: _evaluation(name, random, targets, 0.05, study) for name in names}
    return Findings(
        study=study,
        card=card,
        stories=Stories(("bakery", "clockmaker", "ferry"), ("library",), ("lighthouse",)),
        tracking_uri="sqlite:///mlflow.db",
        sweep="f" * 32,
        trials=tuple(_trial(number, random) for number in range(trials)),
        best=best,
        paper={name: _evaluation(name, random, targets, 0.03, study) for name in names},
        targets={name: where.assign(ceiling=random.uniform(0.5, 0.7, targets)) for name in names},
        inside={name: inside(random, targets) for name in names},
        layers=layer_scores(names, random),
    )


def inside(random: np.random.Generator, targets: int) -> Inside:
    """An encoder of two layers, of which attention and feed-forward moved."""
    places = [("conv", None), ("projection", None), ("positional", None)]
    places += [(kind, layer) for kind in ("attention", "feed_forward", "layer_norm") for layer in (0, 1)]
    places += [("bias", None), ("bias", 0), ("bias", 1)]
    kinds, layers = zip(*places, strict=True)
    moved = [kind in ("attention", "feed_forward") for kind in kinds]
    changes = pd.DataFrame(
        {
            "type": kinds,
            "layer": pd.array(layers, "Int64"),
            "parameters": 1000,
            "change": np.where(moved, random.uniform(0.02, 0.2, len(moved)), 0.0),
            "norm": 3.0,
        }
    )
    return Inside(changes, None, (192, targets))


def layer_scores(names: list[str], random: np.random.Generator) -> tuple[LayerScore, ...]:
    """Of three hidden states, the second highest; with intervals for one subject alone."""

    def interval(value: float) -> Interval:
        reach = 0.02 if len(names) == 1 else math.nan
        return Interval(value, value - reach, value + reach)

    return tuple(
        LayerScore(encoder, name, layer, None, interval(0.1 * rank + random.normal(0, 0.01)))
        for encoder, gain in (("frozen", 0), ("refined", 0.5))
        for name in names
        for layer, rank in enumerate((1, 3 + gain, 2 + gain))
    )


def places(space: str, targets: int) -> pd.DataFrame:
    """A patch of a surface or a block of voxels."""
    numbers = np.arange(targets)
    if space.startswith("fsaverage"):
        half = targets // 2
        return pd.DataFrame(
            {
                "target": numbers,
                "hemisphere": np.where(numbers < half, "L", "R"),
                "vertex": 40 + numbers % half,
            }
        )
    i, j, k = np.unravel_index(numbers, (10, 10, targets // 100 + 1))
    columns = {"i": i + 3, "j": j + 4, "k": k + 5}
    millimetres = {
        f"{axis}_mm": 6.0 * column - 60 for axis, column in zip("xyz", columns.values(), strict=True)
    }
    return pd.DataFrame({"target": numbers} | columns | millimetres)


def _evaluation(
    subject: str, random: np.random.Generator, targets: int, gain: float, study: Study
) -> Evaluation:
    frozen = random.normal(0.33, 0.1, targets)
    ridge, head = (frozen + random.normal(size, 0.03, targets) for size in (gain, gain - 0.01))
    return Evaluation(
        subject=subject,
        history=6,
        frozen=frozen,
        ridge=ridge,
        head=head,
        gain_ridge=Gain(float(np.mean(ridge - frozen)), 0.0123, 18),
        gain_head=Gain(float(np.mean(head - frozen)), 0.0004, 18),
        intervals={
            name: Interval(
                float(np.mean(values)), float(np.mean(values)) - 0.012, float(np.mean(values)) + 0.012
            )
            for name, values in (
                ("frozen", frozen),
                ("ridge", ridge),
                ("head", head),
                ("gain_ridge", ridge - frozen),
                ("gain_head", head - frozen),
            )
        },
        r2={"frozen": frozen**2, "ridge": ridge**2, "head": head**2},
        white={"frozen": frozen / 2, "ridge": ridge / 2, "head": head / 2},
        predicted={"frozen": frozen > 0.25, "ridge": ridge > 0.25},
        improved=ridge > frozen + 0.02,
        volumes=186,
        folder=study.results / "refined" / subject,
    )


def _trial(number: int, random: np.random.Generator) -> Trial:
    configuration = Configuration()
    if number:
        configuration = Configuration(
            history=int(random.integers(2, 11)),
            unfrozen={} if number == 3 else {"attention": (0, 1), "layer_norm": (0, 1)},
            head_l2=float(random.uniform(0.3, 3)),
            encoder_lr=float(random.uniform(1e-3, 1e-2)),
        )
    epochs = 1 if number == 3 else 7 if number % 3 != 2 else 3
    start = 0.3 - 0.008 * abs(configuration.history - 6) + 0.02 * (number == 7)
    scores = tuple(float(start + 0.012 * epoch**0.6 + random.normal(0, 0.003)) for epoch in range(epochs))
    return Trial(
        run_id=f"{number:032d}",
        number=number,
        status="FAILED" if number == 8 else "FINISHED",
        configuration=configuration,
        scores=scores,
        best_score=max(scores),
        seconds=12.0,
    )


def study_remembered(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of its own name: by `request.param`, on the fixture `server`, or in a file in its folder."""
    if request.param == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("server"))
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return findings().study.model_copy(update={"name": folder.name, "results": folder})


def superb_score(task: str, right: float, seed: int = 0) -> Score:
    """Of an encoder that is right in so great a share of the test utterances."""
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.ones(STATES))
    return Score(
        task=task,
        metric="accuracy",
        higher_is_better=True,
        parts=(np.arange(CLIPS) < right * CLIPS).astype(float),
        wholes=np.ones(CLIPS),
        unit=np.array([f"clip{number:04d}" for number in range(CLIPS)]),
        fold=np.zeros(CLIPS, np.int64),
        rates=(1e-3,),
        dev=({1e-3: right},),
        weights=weights,
        lengths=random.uniform(1, 9, STATES),
        deviations={"updates": "300 of 200,000"},
    )
