"""What the terminal shows of scores is what was found, and JSON is JSON."""

import json
import math

from rich.console import Console, Group

from wav2bold.evaluation.evaluated import Scored
from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.listing import as_json, heading, listing

ONE = Scored("wav2vec2", "sub-001", None, None, Interval(0.1234, 0.1, -0.02), 0.4567, 0.015, 1234, 5678, 300)


def shown(table: Group) -> str:
    console = Console(width=160, record=True, file=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_a_row_tells_the_score_its_interval_and_its_share() -> None:
    text = shown(listing([ONE], "Scores"))
    for cell in ("sub-001", "0.123", "0.100 to \N{MINUS SIGN}0.020", "46%", "0.015", "1,234/5,678"):
        assert cell in text
    for column in ("layer", "region"):
        assert column not in text, "read as configured, of all targets: nothing to tell apart"


def test_layers_regions_and_encoders_are_told_where_there_are_several() -> None:
    rows = [
        Scored("frozen", "sub-001", 0, None, ONE.score, math.nan, 0.0, 1, 2, 3),
        Scored("refined", "sub-001", 1, "A1", ONE.score, math.nan, 0.0, 1, 2, 3),
    ]
    text = shown(listing(rows, "Scores"))
    for word in ("frozen", "refined", "layer", "A1", "all", "\N{EN DASH}"):
        assert word in text


def test_a_number_that_there_is_not_is_null() -> None:
    nothing = Scored(
        "a", "b", None, None, Interval(math.nan, math.nan, math.nan), math.nan, math.nan, 0, 1, 2
    )
    told = json.loads(as_json([nothing]))[0]
    assert told["score"] == {"value": None, "low": None, "high": None}
    assert told["predicted"] == 0


def test_the_heading_names_each_control() -> None:
    assert heading(random_weights=False, shift_bold=False, bold_of=None) == "Scores on the test stories"
    said = heading(random_weights=True, shift_bold=True, bold_of="sub-002")
    assert said.count(",") == 3
    assert "BOLD of sub-002" in said
