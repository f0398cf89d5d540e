"""Brain score against history says what the trials of each history say, with intervals that scipy gives."""

import base64
import io
import math
import re
from dataclasses import replace

import made_up
import numpy as np
import pandas as pd
import pytest
from parsed import Parsed
from scipy import stats

from wav2bold.config import Space
from wav2bold.report.findings import Findings
from wav2bold.report.histories import AtHistory, by_history, histories
from wav2bold.report.page import render
from wav2bold.report.words import before_stage2
from wav2bold.tuning.remembered import Trial

TRUTH = 6
"""TRs at which the made-up scores are highest."""
SPACE = Space().history


def trial(number: int, history: int, **told: object) -> Trial:
    """Its frozen score is exact; refinement adds something of its own. It ran to its end."""
    made = made_up.findings(1, "T1w", 4, 1).trials[0]
    chosen = made.configuration.model_copy(update={"history": history, "epochs": 3})
    start = 0.3 - 0.01 * abs(history - TRUTH)
    scores = (start, start + 0.01, start + 0.02 + 0.003 * (number % 5), start + 0.015)
    whole = replace(made, number=number, configuration=chosen, scores=scores, best_score=max(scores))
    return replace(whole, **told)


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return [trial(number, 2 + number % 9) for number in range(36)]


def at(found: list[AtHistory], history: int) -> AtHistory:
    (one,) = [one for one in found if one.history == history]
    return one


def test_both_curves_peak_at_the_history_that_the_scores_were_made_of(trials: list[Trial]) -> None:
    found = by_history(trials)
    assert [one.history for one in found] == list(range(2, 11))
    for values in ([one.frozen.value for one in found], [one.refined.value for one in found]):
        assert found[int(np.argmax(values))].history == TRUTH
    assert "of the frozen encoder at 6 TRs (0.300)" in histories(trials, trials[0], SPACE)["top"]


def test_the_frozen_score_of_one_history_is_the_same_in_all_its_trials(trials: list[Trial]) -> None:
    for one in by_history(trials):
        assert one.tried == 4
        np.testing.assert_allclose(
            [one.frozen.value, one.frozen.low, one.frozen.high], 0.3 - 0.01 * abs(one.history - TRUTH)
        )


def test_intervals_are_students_over_trials_that_refined_to_their_end(trials: list[Trial]) -> None:
    odd = [
        trial(40, 6, status="FAILED"),
        trial(41, 6, scores=(0.3, 0.9), best_score=0.9),  # stopped early
        trial(42, 6, scores=(math.nan,), best_score=math.nan),
    ]
    head_alone = trials[4].configuration.model_copy(update={"unfrozen": {}, "history": 6})
    odd.append(trial(43, 6, configuration=head_alone, scores=(0.3,), best_score=0.3))
    one = at(by_history(trials + odd), 6)
    own = [each.best_score for each in trials if each.configuration.history == 6]
    assert one.refined_trials == len(own) == 4
    low, high = stats.t.interval(0.95, 3, np.mean(own), stats.sem(own))
    np.testing.assert_allclose([one.refined.low, one.refined.high], [low, high])
    assert one.refined.value == pytest.approx(np.mean(own))
    assert (one.best, one.best_trial) == (0.9, 41)
    assert one.tried == len(own) + 3  # but for the one that has no score


def test_two_trials_give_a_mean_and_no_interval(trials: list[Trial]) -> None:
    for one in by_history(trials[:18]):
        assert math.isfinite(one.refined.value)
        assert math.isnan(one.refined.low)
        assert one.refined_trials == 2


def test_of_subjects_refined_one_by_one_the_interval_is_over_them() -> None:
    scores = {"sub-001": 0.2, "sub-002": 0.3, "sub-003": 0.34}
    mean = sum(scores.values()) / 3
    whole = {"reduce": "mean", "scores": (0.2, 0.25, mean), "best_score": mean, "subject_scores": scores}
    worse = whole | {"best_score": 0.1, "subject_scores": dict.fromkeys(scores, 0.1)}
    cut = whole | {"stopped": True, "best_score": 0.5}
    (one,) = by_history([trial(0, 4, **worse), trial(1, 4, **whole), trial(2, 4, **cut)])
    low, high = stats.t.interval(0.95, 2, mean, stats.sem(list(scores.values())))
    np.testing.assert_allclose([one.refined.value, one.refined.low, one.refined.high], [mean, low, high])
    assert (one.subjects, one.tried, one.best_trial) == (3, 0, 1)
    assert math.isnan(one.frozen.value)


def test_the_figure_its_words_and_its_file_say_the_same() -> None:
    found = made_up.findings(1, "T1w", 20, 24)
    page = render(found)
    (kept,) = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]*)" download="histories.csv"', page)
    table = pd.read_csv(io.BytesIO(base64.b64decode(kept)))
    expected = by_history(found.trials)
    assert table["history"].tolist() == [one.history for one in expected]
    np.testing.assert_allclose(table["best"], [one.best for one in expected], rtol=1e-5)
    np.testing.assert_allclose(table["frozen_low"], [one.frozen.low for one in expected], rtol=1e-5)
    assert table["trials"].sum() == len(found.trials)
    top = table.loc[table["frozen"].idxmax()]
    said = f"of the frozen encoder at {top['history']:.0f} TRs ({top['frozen']:.3f})"
    assert Parsed(page).text.count(said) == 2  # below the figure and in its title
    counts = sorted(one.tried for one in expected)
    assert f"mean over the {counts[0]} to {counts[-1]} trials of a history" in " ".join(page.split())


def test_a_sweep_that_told_no_score_has_no_such_figure(trials: list[Trial]) -> None:
    nothing = [replace(one, status="FAILED", scores=(), best_score=math.nan) for one in trials]
    assert histories(nothing, trials[0], SPACE) is None


def test_histories_that_were_not_tried_are_named(trials: list[Trial]) -> None:
    some = [one for one in trials if one.configuration.history not in (TRUTH, 1)]
    left_out = histories(some, trials[0], SPACE)
    assert left_out is not None
    tried = {one.configuration.history for one in some}
    assert re.findall(r"\d+", left_out["untried"]) == [str(one) for one in range(1, 11) if one not in tried]
    found: Findings = replace(made_up.findings(1, "T1w", 20, 1), trials=tuple(some))
    assert left_out["untried"] in Parsed(render(found)).text


def test_a_best_score_before_stage_2_is_told_as_the_frozen_encoders(trials: list[Trial]) -> None:
    fell = replace(trials[0], scores=(0.3, 0.2, 0.25), best_score=0.3)
    assert "no epoch of refinement bettered it" in before_stage2(fell)
    assert before_stage2(replace(fell, scores=(0.3, 0.2, 0.31), best_score=0.31)) == ""
    assert before_stage2(replace(fell, scores=(0.3,))) == ""
    found: Findings = replace(made_up.findings(1, "T1w", 20, 1), trials=(fell,))
    assert before_stage2(fell) in Parsed(render(found)).text


def test_the_winners_history_is_told_on_the_page(trials: list[Trial]) -> None:
    found: Findings = replace(made_up.findings(1, "T1w", 20, 1), trials=tuple(trials))
    top = max(trials, key=lambda one: one.best_score)
    assert found.winner.configuration.history == top.configuration.history == TRUTH
    assert f"of single trials at {TRUTH} TRs ({top.best_score:.3f})" in Parsed(render(found)).text
