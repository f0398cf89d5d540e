"""What a person sees in the terminal while work goes on, and when it is done."""

import _thread
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column

from wav2bold.progress import Progress

REMEMBERED_S = 24 * 3600
"""How far back the speed is measured that tells what time is left: one trial can take an hour."""
AGAIN_S = 0.05
"""After which an interrupt comes again that was lost."""
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@contextmanager
def watching(what: str) -> Iterator[Progress]:
    """A progress bar for one long piece of work, on standard error.

    Where standard error is no terminal, a line is written each time a tenth more is done.
    """
    if not err.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.fields[what]:<9}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("left", style="dim"),
        # as wide as the rest of the line: long names are cut, and numbers stay
        TextColumn(
            "{task.description}",
            style="dim",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
    )
    with Bars(*columns, console=err, expand=True, speed_estimate_period=REMEMBERED_S) as bars:
        task = bars.add_task("", total=None, what=what)

        def tell(doing: str, done: int, total: int) -> None:
            bars.update(task, description=doing, completed=done, total=total or None)

        yield tell
        bars.update(task, description="")


def _lines() -> Progress:
    told: dict[str, int] = {}

    def tell(doing: str, done: int, total: int) -> None:
        tenth = 10 * done // total if total else -1
        key = str(total)
        if told.get(key) != tenth:
            told[key] = tenth
            err.print(f"  {done}/{total}  {doing}" if total else f"  {doing}", markup=False, soft_wrap=True)

    return tell


def lose_no_interrupt() -> None:
    """Let a Ctrl-C come again that came while Python cleared something away: it would be told of and lost."""
    others = sys.unraisablehook

    def hook(told: "sys.UnraisableHookArgs", /) -> None:
        if told.exc_type is KeyboardInterrupt:
            threading.Timer(AGAIN_S, _thread.interrupt_main).start()  # here it would be lost again
        else:
            others(told)

    sys.unraisablehook = hook
