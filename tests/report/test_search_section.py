"""The pictures of a search say what its trials say."""

import math
import re
from dataclasses import replace

import made_up
import numpy as np
import pytest
from parsed import Parsed

from wav2bold.config import Configuration, Search
from wav2bold.report.page import render
from wav2bold.report.parallel import parallel_coordinates
from wav2bold.report.search_section import search_section
from wav2bold.report.tried import importances, options_of_trials, scored
from wav2bold.tuning.best import pareto
from wav2bold.tuning.remembered import Trial


def trial(number: int, score: float, **options: object) -> Trial:
    made = made_up.findings(trials=1).trials[0]
    chosen = Configuration.model_validate(options)
    return replace(made, number=number, configuration=chosen, best_score=score, scores=(score,) * 7)


@pytest.fixture(scope="module")
def searched() -> list[Trial]:
    """Scores are a line in the history plus one in the rate's logarithm; the penalty does nothing."""
    random = np.random.default_rng(0)
    found = []
    for number in range(240):
        history, rate = int(random.integers(1, 11)), float(10 ** random.uniform(-5, -3))
        score = 0.02 * history + 0.04 * (math.log10(rate) + 4)
        options = {"history": history, "encoder_lr": rate, "head_l2": float(random.uniform(0.3, 3))}
        found.append(trial(number, score, **options))
    return found


def test_importances_are_the_shares_of_variance_that_the_scores_were_made_of(searched: list[Trial]) -> None:
    by_history, by_rate = 0.02**2 * (10**2 - 1) / 12, 0.04**2 * 2**2 / 12  # of even draws
    whole = by_history + by_rate
    found = {one.option: one for one in importances(searched)}
    assert list(found) == ["history", "encoder rate", "head penalty"]
    assert found["history"].value == pytest.approx(by_history / whole, abs=0.08)
    assert found["encoder rate"].value == pytest.approx(by_rate / whole, abs=0.08)
    assert found["head penalty"].value < 0.02
    for one in found.values():
        assert 0 <= one.low <= one.value <= one.high <= 1


def test_importances_are_the_same_each_time(searched: list[Trial]) -> None:
    assert importances(searched[:40]) == importances(searched[:40])


@pytest.mark.parametrize("kept", [0, 1, 9])
def test_of_few_trials_nothing_is_said(searched: list[Trial], kept: int) -> None:
    assert importances(searched[:kept]) == []
    assert importances([replace(one, best_score=0.2) for one in searched[:20]]) == []


def test_what_failed_or_runs_or_saw_other_subjects_is_not_compared(searched: list[Trial]) -> None:
    others = [
        replace(searched[1], status="FAILED"),
        replace(searched[2], status="RUNNING"),
        replace(searched[3], best_score=math.nan),
        replace(searched[4], reduce="mean", stopped=True),
    ]
    assert scored([searched[0], *others]) == [searched[0]]


def test_options_that_had_no_part_are_none_and_those_that_never_varied_are_left_out() -> None:
    trials = [
        trial(0, 0.1, unfrozen={"attention": (1, 2), "bias": (0, 1)}, encoder_lr=1e-3),
        trial(1, 0.2, unfrozen={"attention": None}, encoder_lr=1e-4),
        trial(2, 0.3, unfrozen={}),
    ]
    assert options_of_trials(trials) == {
        "attention": [True, True, False],
        "biases": [True, False, False],
        "highest layer": [2, "top", None],
        "encoder rate": [1e-3, 1e-4, None],
    }


def heights(svg: str) -> dict[int, list[float]]:
    lines = re.findall(r'points="([^"]*)"><title>trial (\d+):', svg)
    return {int(number): [float(one.split(",")[1]) for one in points.split()] for points, number in lines}


def test_a_line_runs_through_its_trials_values_to_its_score(searched: list[Trial]) -> None:
    svg = parallel_coordinates(searched, searched[7])
    found = heights(svg)
    assert len(found) == len(searched)
    rates = [one.configuration.encoder_lr for one in searched]
    place = list(options_of_trials(searched)).index("encoder rate")
    drawn = [found[one.number][place] for one in searched]
    assert np.corrcoef(np.log(rates), drawn)[0, 1] == pytest.approx(-1, abs=1e-4)
    scores = [found[one.number][-1] for one in searched]
    assert np.argmin(scores) == np.argmax([one.best_score for one in searched])
    assert svg.count("is-best") == svg.count("is-paper") == 1


def test_a_trial_without_a_rate_runs_below_all_who_have_one() -> None:
    trials = [trial(n, n / 10, encoder_lr=10.0**-n) for n in (2, 3, 4)] + [trial(5, 0.1, unfrozen={})]
    found = heights(parallel_coordinates(trials, trials[0]))
    place = list(options_of_trials(trials)).index("encoder rate")
    assert found[5][place] > max(found[number][place] for number in (2, 3, 4)) + 20


def test_there_are_no_lines_where_nothing_varied() -> None:
    same = [trial(number, 0.1 * number) for number in range(3)]
    assert parallel_coordinates(same, same[0]) == ""


def test_two_goals_have_a_front_of_the_trials_that_none_betters() -> None:
    found = made_up.findings(trials=30)
    trials = tuple(replace(one, trained_parameters=100 * (one.number % 7 + 1)) for one in found.trials)
    one_goal = replace(found, trials=trials)
    assert not search_section(one_goal)["front"]
    two = one_goal.study.model_copy(update={"search": Search(sampler="nsgaii")})
    known = scored(trials)
    page = render(replace(one_goal, study=two))
    assert f"Joined are the {len(pareto(known))} of {len(known)} trials" in page
    (table,) = [one for one in Parsed(page).numbers if "trained parameters" in one[0][2:3]]
    assert [(int(row[0]), float(row[1]), int(row[2])) for row in table[1:]] == [
        (one.number, pytest.approx(one.best_score, rel=1e-3), one.trained_parameters) for one in known
    ]
    assert [int(row[0]) for row in table[1:] if row[3] == "yes"] == sorted(
        one.number for one in pareto(known)
    )
    uncounted = replace(found, study=two)
    assert not search_section(uncounted)["front"]


def test_the_page_of_200_trials_and_5_subjects_is_small() -> None:
    html = render(made_up.findings(5, trials=200))
    assert 'aria-labelledby="parallel-title"' in html
    assert len(html.encode()) < 2_000_000
