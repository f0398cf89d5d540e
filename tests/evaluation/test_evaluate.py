"""Refinement learns what there is to learn, judged on stories that nothing touched, and nothing else.

The teacher is the truth: it made the BOLD. The student is the teacher with shuffled matrices.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from listeners import on_disk, speech

from wav2bold.config import Configuration
from wav2bold.datasets import writing
from wav2bold.datasets.shards import Bold, Shards, targets_path
from wav2bold.datasets.simulate import brain_signal, scanner_noise
from wav2bold.datasets.splits import Stories
from wav2bold.datasets.teacher import extractor, hear, make_teacher, perturbed
from wav2bold.datasets.windows import windows
from wav2bold.evaluation.evaluate import evaluate
from wav2bold.evaluation.evaluated import Evaluation
from wav2bold.trainables.activations import ActivationStore
from wav2bold.trainables.checkpoint import save_refined
from wav2bold.trainables.encoder import load_encoder
from wav2bold.trainables.people import targets_of
from wav2bold.trainables.refine import Material, refine
from wav2bold.trainables.scores import brain_score, pearson

TR_S, HISTORY, CEILING, TARGETS, MINUTES = 1.5, 4, 0.8, 40, 3
FIRST = 10
NAMES = ["first"] * FIRST + ["rest"] * (TARGETS - FIRST)
STORIES = Stories(("s0", "s1", "s2"), ("s3",), ("s4",))
CONFIGURATION = Configuration(
    history=HISTORY,
    unfrozen={"attention": None, "feed_forward": None},
    encoder_lr=1e-2,
    head_lr=1e-4,
    epochs=5,
    batch=8,
)


@dataclass(frozen=True)
class World:
    """signal: what each volume would be without noise, by story."""

    folder: Path
    shards: Shards
    signal: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    sounds = {f"s{number}": speech(MINUTES * 60, number) for number in range(5)}
    teacher = make_teacher(sounds["s0"], seed=0)
    student = perturbed(teacher, ("attention", "feed_forward"), (0, 1), seed=1)
    for name, model in (("teacher", teacher), ("student", student)):
        model.save_pretrained(folder / name)
        extractor().save_pretrained(folder / name)
    bold, signal = {}, {}
    t = np.arange(HISTORY, round(MINUTES * 60 / TR_S) + 1, dtype=np.int32)
    random = np.random.default_rng(7)
    mixing = random.standard_normal((32, TARGETS))
    for story, sound in sounds.items():
        heard = hear(teacher, sound, t * TR_S, TR_S, HISTORY)
        signal[story] = brain_signal(heard, TR_S, mixing)
        noise, rest = (scanner_noise(len(t), TARGETS, random) for _ in range(2))
        y = CEILING * signal[story] + np.sqrt(1 - CEILING**2) * noise
        bold["sub-001", story] = Bold(t, t * TR_S, y.astype(np.float32))
        bold["sub-null1", story] = Bold(t, t * TR_S, rest.astype(np.float32))
    shards = on_disk(folder / "shards", sounds, bold, TR_S)
    regions = {"label": np.repeat([1, 2], [FIRST, TARGETS - FIRST]), "name": NAMES, "ceiling": np.nan}
    named = pd.DataFrame({"target": np.arange(TARGETS)} | regions)
    writing.write_targets(targets_path(shards.root, "sub-001"), named, {})
    return World(folder, shards, signal)


def refined(world: World, name: str, subject: str) -> Evaluation:
    encoder = load_encoder(str(world.folder / name))
    store = ActivationStore(world.folder / "store")
    train = windows(world.shards, [subject], STORIES.train, HISTORY)
    validation = windows(world.shards, [subject], STORIES.validation, HISTORY)
    generator = refine(Material(encoder, world.shards, store, train, validation), CONFIGURATION, 0)
    reports = []
    while True:
        try:
            reports.append(next(generator))
        except StopIteration as stop:
            result = stop.value
            break
    folder = world.folder / f"{name}-{subject}"
    targets = targets_of(world.shards, train.subject)
    save_refined(folder, result, encoder, targets, reports, {"subject": subject})
    return evaluate(encoder, world.shards, store, STORIES, subject, folder, HISTORY)


def test_the_truth_is_as_good_as_the_ceiling_and_the_teacher_nearly(world: World) -> None:
    test = windows(world.shards, ["sub-001"], STORIES.test, HISTORY)
    assert pearson(test.y, world.signal["s4"]).mean() == pytest.approx(CEILING, abs=0.03)


def test_a_perturbed_encoder_learns_to_hear_and_nears_the_teacher(world: World) -> None:
    found = refined(world, "student", "sub-001")
    assert found.gain_head.gain > 0.03
    assert found.gain_head.p < 0.01
    assert found.gain_ridge.gain > 0.03
    assert found.gain_ridge.p < 0.01
    for gain, after in ((found.gain_head, found.head), (found.gain_ridge, found.ridge)):
        assert gain.gain == pytest.approx(after.mean() - found.frozen.mean(), abs=1e-6)
    assert found.scores["frozen"] < found.scores["ridge"] < CEILING
    for name, gain in (("gain_ridge", found.gain_ridge), ("gain_head", found.gain_head)):
        interval = found.intervals[name]
        assert 0 < interval.low < gain.gain < interval.high
        assert interval.value == pytest.approx(gain.gain, abs=1e-6)
    assert found.predicted["ridge"].mean() >= found.predicted["frozen"].mean() > 0.5
    assert found.improved.any()
    assert found.r2["frozen"].mean() < found.r2["ridge"].mean() < CEILING**2
    assert brain_score(found.white["frozen"]) < brain_score(found.white["ridge"])
    assert not np.array_equal(found.white["ridge"], found.ridge)
    assert found.volumes == len(world.signal["s4"])
    assert (found.subject, found.history) == ("sub-001", HISTORY)
    assert list(found.regions) == ["first", "rest"]
    for name, one in found.regions.items():
        inside = np.array(NAMES) == name
        assert one.frozen.value == pytest.approx(found.frozen[inside].mean(), abs=1e-6)
        assert one.refined.value == pytest.approx(found.ridge[inside].mean(), abs=1e-6)
        assert one.gain.low < one.gain.value < one.gain.high
        assert one.gain.value == pytest.approx((found.ridge - found.frozen)[inside].mean(), abs=1e-6)
        assert one.targets == inside.sum()
        assert one.predicted == found.predicted["ridge"][inside].sum()
        assert one.improved == found.improved[inside].sum()
    # more targets, less noise of their mean
    assert np.diff([one.gain.high - one.gain.low for one in found.regions.values()]) < 0


def test_the_teacher_itself_has_nothing_to_gain(world: World) -> None:
    found = refined(world, "teacher", "sub-001")
    assert found.scores["frozen"] > 0.85 * CEILING
    assert found.gain_head.gain < 0.01
    assert found.gain_ridge.gain < 0.01
    assert found.intervals["gain_ridge"].low < 0.01
    assert found.improved.mean() < 0.1


def test_nothing_is_learnt_of_a_brain_that_hears_nothing(world: World) -> None:
    found = refined(world, "student", "sub-null1")
    assert abs(found.scores["frozen"]) < 0.05
    assert found.gain_head.p > 0.01
    assert found.predicted["ridge"].mean() < 0.05
    assert not found.improved.any()
    assert found.intervals["frozen"].low < 0 < found.intervals["frozen"].high
    assert found.gain_ridge.p > 0.01
    assert not found.regions  # none has a name
