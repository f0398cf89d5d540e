"""What is said of saved scanning time, in the terminal and on the page."""

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from wav2bold.evaluation.across_subjects import summary
from wav2bold.evaluation.intervals import Interval
from wav2bold.evaluation.minutes import Efficiency
from wav2bold.evaluation.saving import Saving
from wav2bold.pages.words import count, decimals, score

NAMES = {"frozen": "frozen", "others": "refined on others", "own": "then on the subject"}


def efficiency_table(found: Efficiency) -> Table:
    """A row per budget, a column per encoder."""
    table = Table(
        title=f"Brain score of {found.subject} by minutes of their data",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("minutes", *NAMES.values()):
        table.add_column(name, justify="right")
    for each, *scores in rows(found):
        table.add_row(each, *scores)
    return table


def rows(found: Efficiency) -> list[list[str]]:
    """Minutes, and the scores of NAMES with their intervals."""
    return [
        [decimals(each, 1), *(_with_ends(found.curves[kind][number]) for kind in NAMES)]
        for number, each in enumerate(found.minutes)
    ]


def saved(found: Efficiency) -> list[str]:
    """A sentence for each of the refined encoders."""
    return [f"{found.subject}, {NAMES[kind]}: {saving_said(one)}" for kind, one in found.savings.items()]


def saving_said(one: Saving) -> str:
    """The factor with its interval; in words where the curves don't tell it."""
    if math.isnan(one.factor):
        return "the curves are nowhere as high as each other, so no factor can be told; name other minutes"
    bound = "at least " if one.at_least else "at most " if one.at_most else ""
    high = "no upper end" if math.isinf(one.high) else decimals(one.high, 2)
    return (
        f"{bound}{decimals(one.factor, 2)} times fewer minutes for r {score(one.score)} than with the frozen "
        f"encoder (95% interval {decimals(one.low, 2)} to {high})"
    )


def across(found: Sequence[Efficiency], kind: str) -> str:
    """The geometric mean over subjects with Student's interval; empty for less than two who tell a factor."""
    logs = [math.log(one.savings[kind].factor) for one in found if one.savings[kind].factor > 0]
    if len(logs) < 2:
        return ""
    told = summary(logs)
    middle, low, high = (
        decimals(math.exp(value), 2) for value in (told.mean.value, told.mean.low, told.mean.high)
    )
    bounded = sum(one.savings[kind].at_least or one.savings[kind].at_most for one in found)
    bounds = f"; {bounded} of them are bounds, taken as they are" if bounded else ""
    return (
        f"{NAMES[kind]}: {middle} times over {count(told.subjects, 'subject')} (geometric mean; 95% interval "
        f"{low} to {high}, Student's t over subjects{bounds})"
    )


def _with_ends(one: Interval) -> str:
    if not math.isfinite(one.low):
        return score(one.value)
    return f"{score(one.value)} ({score(one.low)} to {score(one.high)})"
