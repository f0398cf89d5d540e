"""What refinement saves a new subject: from shards to the page."""

import json
import math
from dataclasses import replace

import made_up
import numpy as np
import pytest
from listeners import on_disk, speech
from parsed import Parsed

from wav2bold import steps
from wav2bold.config import Configuration, Search, Split, Study
from wav2bold.datasets.shards import Bold, open_shards
from wav2bold.datasets.simulate import brain_signal, scanner_noise
from wav2bold.datasets.teacher import extractor, hear, make_teacher, perturbed
from wav2bold.errors import DataError, StudyError
from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.minutes import Efficiency, efficiencies
from wav2bold.evaluation.saving import Saving
from wav2bold.report.efficiency_section import efficiency_section
from wav2bold.report.page import render
from wav2bold.trainables.origin import ORIGIN
from wav2bold.tuning.efficiency_words import across, saving_said
from wav2bold.tuning.tracking import Tracker

TR_S, HISTORY, CEILING, TARGETS, SECONDS = 1.5, 2, 0.8, 20, 120.0
QUICK = Configuration(
    history=HISTORY,
    unfrozen={"attention": None, "feed_forward": None},
    encoder_lr=1e-2,
    head_lr=1e-4,
    epochs=4,
    noise="white",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three people whose brains hear as a teacher does; the encoder to refine is the teacher, shuffled."""
    folder = tmp_path_factory.mktemp("efficiency")
    sounds = {f"s{number}": speech(SECONDS, number) for number in range(5)}
    teacher = make_teacher(sounds["s0"], seed=0)
    student = perturbed(teacher, ("attention", "feed_forward"), (0, 1), seed=1)
    student.save_pretrained(folder / "student")
    extractor().save_pretrained(folder / "student")
    t = np.arange(HISTORY, round(SECONDS / TR_S) + 1, dtype=np.int32)
    random, bold = np.random.default_rng(7), {}
    mixings = {f"sub-{number:03d}": random.standard_normal((32, TARGETS)) for number in (1, 2, 3)}
    for story, sound in sounds.items():
        heard = hear(teacher, sound, t * TR_S, TR_S, HISTORY)
        for subject, mixing in mixings.items():
            noise = scanner_noise(len(t), TARGETS, random)
            y = CEILING * brain_signal(heard, TR_S, mixing) + np.sqrt(1 - CEILING**2) * noise
            bold[subject, story] = Bold(t, t * TR_S, y.astype(np.float32))
    on_disk(folder / "shards", sounds, bold, TR_S)
    return Study(
        name="efficiency",
        shards=folder / "shards",
        encoder=str(folder / "student"),
        results=folder,
        split=Split(validation=("s3",), test=("s4",)),
        configuration=QUICK,
        search=Search(space={"history": {"low": 1, "high": HISTORY}}),
    )


@pytest.fixture(scope="module")
def found(study: Study, small_ray: None) -> Efficiency:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return steps.efficiency(study, "sub-003", minutes=(5.5, 1.5))


def test_refinement_on_others_helps_who_was_never_refined_on(found: Efficiency) -> None:
    assert found.minutes == (1.5, 5.5)
    assert found.others == ("sub-001", "sub-002")
    frozen, others = ([one.value for one in found.curves[kind]] for kind in ("frozen", "others"))
    assert all(after > before + 0.02 for before, after in zip(frozen, others, strict=True))
    assert found.savings["others"].factor > 1
    assert (found.volumes, found.targets) == (79, TARGETS)


def test_more_minutes_never_cost_and_scores_lie_in_their_intervals(found: Efficiency) -> None:
    for few, many in found.curves.values():
        assert few.value < many.value
        assert few.low < few.value < few.high


def test_it_is_remembered_in_mlflow_and_on_disk(
    found: Efficiency, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert efficiencies(study, open_shards(study.shards).card.digest) == (found,)
    assert efficiencies(study, "of other shards") == ()
    (run,) = [one for one in Tracker(study).remembered() if one.kind == "efficiency"]
    assert (run.status, run.parts) == ("FINISHED", {"FINISHED": 3})
    told = Tracker(study)._client.get_run(run.run_id).data.metrics
    assert told["efficiency.others"] == pytest.approx(found.curves["others"][-1].value)
    folder = study.results / "mlartifacts" / run.run_id / "artifacts"
    assert json.loads((folder / "sub-003.json").read_text())["subject"] == "sub-003"


def test_a_subject_learns_from_the_minutes_asked_for_alone(found: Efficiency, study: Study) -> None:
    """Of the validation story nothing is read, and what was refined is kept when it is asked for again."""
    places = [study.results / "efficiency" / "sub-003" / name for name in ("others", "minutes-1.5")]
    before = [(place / "model.safetensors").stat().st_mtime_ns for place in places]
    origin = json.loads((places[1] / ORIGIN).read_text())["origin"]
    assert (origin["minutes"], origin["subject"]) == (1.5, "sub-003")
    again = steps.efficiency(study, "sub-003", minutes=(1.5, 5.5))
    assert again == found
    assert [(place / "model.safetensors").stat().st_mtime_ns for place in places] == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"minutes": (1, 50)}, "sub-001: there are 5.92 minutes to train on, not 50"),
        ({"minutes": (2,)}, "a curve needs two budgets"),
        ({"config": Configuration(unfrozen={})}, "trains the head alone"),
        ({"subject": "sub-009"}, "no sub-009"),
    ],
)
def test_what_can_not_be_is_refused_before_any_work(
    study: Study, given: dict[str, object], said: str
) -> None:
    with pytest.raises((DataError, StudyError)) as raised:
        steps.efficiency(study, **({"subject": "sub-001"} | given))
    assert said in str(raised.value)


def told(subject: str, factor: float, **more: object) -> Efficiency:
    curve = tuple(Interval(value, value - 0.01, value + 0.01) for value in (0.1, 0.2, 0.3))
    one = Saving(factor, factor / 2, math.inf if more else 2 * factor, 0.25, bool(more), at_most=False)
    curves = dict.fromkeys(("frozen", "others", "own"), curve)
    minutes = (2.0, 4.0, 8.0)
    return Efficiency(subject, ("sub-009",), minutes, curves, {"others": one, "own": one}, "c", 9, 9, "d")


def test_the_page_tells_the_factors_and_draws_the_curves() -> None:
    subjects = [told("sub-001", 2.0), told("sub-002", 8.0)]
    html = render(replace(made_up.findings(), efficiency=tuple(subjects)))
    page = Parsed(html)
    assert "2.00 times fewer minutes for r 0.250" in page.text
    assert "(95% interval 1.00 to 4.00)" in page.text
    assert "refined on others: 4.00 times over 2 subjects (geometric mean" in page.text
    assert 'id="efficiency-sub-002-title"' in html
    rows = page.tables[-1][1:]
    assert [row[:3] for row in rows[2:4]] == [
        ["sub-001", "8.0", "0.300 (0.290 to 0.310)"],
        ["sub-002", "2.0", "0.100 (0.090 to 0.110)"],
    ]
    page.is_self_contained(html)


def test_a_bound_is_called_one() -> None:
    bound = told("sub-001", 4.0, bound=True)
    assert saving_said(bound.savings["own"]).startswith("at least 4.00 times fewer minutes")
    assert "2.00 to no upper end" in saving_said(bound.savings["own"])
    assert "1 of them are bounds" in across([bound, told("sub-002", 2.0)], "own")
    assert across([bound], "own") == ""
    nothing = replace(bound.savings["own"], factor=math.nan)
    assert "no factor can be told" in saving_said(nothing)


def test_without_curves_there_is_no_section() -> None:
    assert efficiency_section(()) is None


def test_a_result_is_read_back_as_it_was_written() -> None:
    bound = told("sub-001", 4.0, bound=True)
    assert Efficiency.from_json(bound.to_json()) == bound
