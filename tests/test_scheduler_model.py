"""The model of `benchmarks/scale.py` gives what a closed form gives, where there is one."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from _scheduler import Costs, Trial, bottlenecks, efficiency, makespan

ALIKE = [Trial(60.0, 6)] * 120
FREE = Costs(starts=0, driver=0, mlflow=0, disk=0, objects=0)


@pytest.mark.parametrize("places", [1, 7, 50, 120, 1000])
def test_what_costs_nothing_goes_round_by_round(places: int) -> None:
    assert makespan(ALIKE, places, FREE) == pytest.approx(-(-120 // places) * 60)


def test_one_place_pays_for_every_word_and_one_start() -> None:
    costs = Costs(starts=9, driver=0.02, mlflow=0.03, disk=0.5, objects=0.1)
    assert makespan(ALIKE, 1, costs) == pytest.approx(9 + 120 * (60 + 8 * 0.05 + 0.5 + 0.1))


@pytest.mark.parametrize(
    ("costs", "each", "name"),
    [
        (Costs(0, 0.4, 0.1, 0, 0), 8 * 0.5, "driver"),
        (Costs(0, 0.1, 0.4, 0, 0), 8 * 0.5, "MLflow"),
        (Costs(0, 0.0, 0.001, 3, 0), 3, "storage"),
        (Costs(0, 0.0, 0.001, 0, 3), 3, "object store"),
    ],
)
def test_what_is_shared_sets_the_pace_of_many_places(costs: Costs, each: float, name: str) -> None:
    first = bottlenecks(ALIKE, costs)[0]
    assert first.name.startswith(name)
    assert makespan(ALIKE, 1000, costs) == pytest.approx(120 * each, rel=0.2)  # all but the last trials' work
    few, many = round(first.gpus / 2), round(first.gpus * 4)
    assert efficiency(ALIKE, few, costs) > 0.6
    assert efficiency(ALIKE, many, costs) == pytest.approx(60 / (many * each), rel=0.2)
