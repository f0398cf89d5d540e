"""How far a sweep has come, in words: whether it still runs, what failed and why, who is yet to refine."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wav2bold.pages.words import count, listed, some
from wav2bold.tuning.remembered import Trial

MOST_REASONS = 3
"""Reasons of failures that a notice tells; a table has all."""
MOST_NUMBERS = 8
LONGEST_REASON = 200
"""Letters of a reason that a notice tells whole."""
COMMANDS = "wav2bold best STUDY --out best.yaml, then wav2bold refine STUDY --config best.yaml"
"""What refines with the best configuration."""


@dataclass(frozen=True)
class Standing:
    """status: of the sweep's run, as MLflow says.  driven: whether a process drives it; None: unknown."""

    status: str
    driven: bool | None = None


ENDED = Standing("FINISHED")


def notices(standing: Standing, trials: Sequence[Trial], planned: int) -> list[str]:
    """What a reader has to know before the numbers; nothing where all trials ended well.

    planned: trials that the study asks for.
    """
    told = _how_far(standing, trials, planned)
    return [one for one in (told, _failures(trials)) if one]


def nothing_finished(trials: Sequence[Trial]) -> str:
    """Why there is nothing to tell of a sweep, beside that no trial of it has finished."""
    if not trials:
        return "none has begun"
    parts = [
        f"{len(found)} {word}" for word, found in _by_state(trials).items() if found and word != "finished"
    ]
    reasons = [reason for reason, _ in _reasons(trials)]
    return listed(parts) + (f": {reasons[0]}" if reasons else "")


def failed(trials: Iterable[Trial]) -> list[tuple[int, str]]:
    """Number and reason of each trial that failed."""
    return [(trial.number, _reason(trial)) for trial in trials if trial.status == "FAILED"]


def unrefined(wanted: Sequence[str], refined: Sequence[str]) -> str:
    """A notice of subjects of the sweep who have no refined encoder; empty if all have one."""
    lacking = [subject for subject in wanted if subject not in refined]
    if not lacking or not refined:
        return ""
    verb = "is" if len(lacking) == 1 else "are"
    return (
        f"{len(lacking)} of {count(len(wanted), 'subject')} of the sweep {verb} not refined with the best "
        f"configuration, and so {verb} not in the test: {some(lacking)}. wav2bold refine adds the missing."
    )


def _how_far(standing: Standing, trials: Sequence[Trial], planned: int) -> str:
    """Empty for a sweep that has ended."""
    if standing.status == "FINISHED" or (standing.status == "FAILED" and standing.driven is not True):
        return ""
    states = _by_state(trials)
    far = f"{len(states['finished'])} of {count(max(planned, len(trials)), 'trial')} have finished"
    if states["failed"]:
        far += f", {len(states['failed'])} failed"
    open_ones = [*states["running"], *states["interrupted"]]
    going = f" ({_numbered(open_ones)})" if open_ones else ""
    if standing.driven or (standing.status == "RUNNING" and standing.driven is None):
        known = "" if standing.driven else ", as far as MLflow knows"
        return (
            f"The sweep is still running{known}: {far}, {len(open_ones)} run now{going}. What is shown is "
            "what there was when this page was made; the best configuration can still become another."
        )
    return (
        f"The sweep did not come to its end, and nothing drives it any more: {far}, {len(open_ones)} were "
        f"cut off{going}. wav2bold sweep STUDY --resume goes on with it."
    )


def _failures(trials: Sequence[Trial]) -> str:
    found = _reasons(trials)
    if not found:
        return ""
    number = sum(len(numbers) for _, numbers in found)
    told = "; ".join(f"{_numbered(numbers)}: {_in_short(reason)}" for reason, numbers in found[:MOST_REASONS])
    more = len(found) - MOST_REASONS
    rest = f"; and {count(more, 'other reason')}, in the table of failed trials" if more > 0 else ""
    return f"{count(number, 'trial')} of {len(trials):,} failed. {told[:1].upper()}{told[1:]}{rest}."


def _in_short(reason: str) -> str:
    """A long reason's first sentence, such as of a worker that died; the table has all of it."""
    return reason if len(reason) <= LONGEST_REASON else reason.split(". ", maxsplit=1)[0][:LONGEST_REASON]


def _reasons(trials: Iterable[Trial]) -> list[tuple[str, list[int]]]:
    """Reasons with the numbers of the trials that failed for them, the most frequent first."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, reason in failed(trials):
        found[reason].append(number)
    return sorted(found.items(), key=lambda one: (-len(one[1]), one[1]))


def _reason(trial: Trial) -> str:
    return trial.reason.rstrip(".") or "no reason is remembered"


def _by_state(trials: Iterable[Trial]) -> dict[str, list[int]]:
    """Numbers of trials: finished, failed, running, and interrupted."""
    words = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}
    found: dict[str, list[int]] = {word: [] for word in ("finished", "failed", "running", "interrupted")}
    for trial in trials:
        found[words.get(trial.status, "running")].append(trial.number)
    return found


def _numbered(numbers: Sequence[int]) -> str:
    """Of trials, in words: `trial 3`, `trials 3, 5 and 8`."""
    word = "trial" if len(numbers) == 1 else "trials"
    shown = [str(number) for number in numbers]
    return f"{word} {listed(shown) if len(shown) <= MOST_NUMBERS else some(shown, MOST_NUMBERS)}"
