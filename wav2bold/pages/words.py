"""What every page says in the same words: numbers, lists, and that recordings are simulated."""

import math
from collections.abc import Collection, Iterable, Sequence

MINUS = "\N{MINUS SIGN}"


def score(value: float) -> str:
    """A correlation, to three decimals; an en dash where there is none."""
    return decimals(value)


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"{value:+.3f}".replace("-", MINUS) if math.isfinite(value) else "\N{EN DASH}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def some(names: Collection[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(list(names)[:most]) + (f" and {more} more" if more > 0 else "")


def span(numbers: Iterable[float], form: str = ",") -> str:
    """3, or 3 to 12: the lowest and the highest, in a format."""
    known = list(numbers)
    return " to ".join(dict.fromkeys(format(one, form) for one in (min(known), max(known))))


def count(number: int, word: str) -> str:
    """1 story, 2 stories."""
    if number == 1:
        return f"1 {word}"
    return f"{number:,} {word[:-1]}ies" if word.endswith("y") else f"{number:,} {word}s"


def simulated_note(*names: str) -> str:
    """A warning if recordings of these names are simulated in whole or in part; else empty."""
    name = " ".join(names).lower()
    if "semi-synthetic" in name or "semisynthetic" in name:
        return (
            "These recordings are semi-synthetic: real resting-state noise with a simulated response to "
            "speech added. No person heard these stories, and nothing here is a finding about the brain."
        )
    if "simulat" in name or "synthetic" in name:
        return (
            "These recordings are simulated: no person was scanned. The numbers show what the method does "
            "where the truth is known, and are no finding about the brain."
        )
    return ""


def decimals(value: float, places: int = 3) -> str:
    """A number to so many decimals; an en dash where there is none."""
    return f"{value:.{places}f}".replace("-", MINUS) if math.isfinite(value) else "\N{EN DASH}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: 42 s, 12 min 5 s, 3 h 20 min, 2 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    large, small, units = (whole, 60, ("min", "s")) if whole < 3600 else (whole // 60, 60, ("h", "min"))
    rest = large % small
    return f"{large // small:,} {units[0]}" + (f" {rest} {units[1]}" if rest else "")
