"""Run every benchmark of this folder, one after the other, and write RESULTS.md beside them.

A benchmark prints one JSON line per figure on standard output; the rest goes to standard error.
`python benchmarks/run.py refine` runs those whose name holds `refine`, and renews their lines.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIBRARIES = ("torch", "transformers", "ray", "himalaya", "nilearn")

COLUMNS = 7
GPU_HEADING = "## On a GPU"
"""What follows in RESULTS.md was measured elsewhere, and stays."""

Figure = dict[str, Any]


def measure(script: Path) -> list[Figure] | None:
    """The figures that a benchmark prints; None if it fails."""
    print(f"{script.stem} ...", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return None
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def machine() -> str:
    """Processor cores, memory and libraries, in a line."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory_gb:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {libraries}"
    )


def row(benchmark: str, figure: Figure) -> str:
    """A line of the table."""
    return (
        f"| {benchmark} | {figure['figure']} | {figure['value']:.4g} | {figure['unit']} "
        f"| {figure.get('n', '')} | {figure.get('spread', '')} | {datetime.now(UTC):%Y-%m-%d} |"
    )


def page(rows: Iterable[str], failed: Iterable[str]) -> str:
    """RESULTS.md down to what was measured elsewhere."""
    lines = [
        "# Measured",
        "",
        machine(),
        "Written by `make bench`. A ratio compares two things timed in turn in one run; its median is shown.",
        "",
        "| benchmark | figure | value | unit | n | spread | date |",
        "|---|---|---|---|---|---|---|",
        *rows,
        *(f"\n{name} failed." for name in failed),
        "",
    ]
    return "\n".join(lines)


def kept(text: str, measured: Collection[str]) -> dict[str, list[str]]:
    """Lines of an older table, by the benchmark, of those that were not measured now."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == COLUMNS + 1]
    found: dict[str, list[str]] = {}
    for line in lines:
        name = line.split("|")[1].strip()
        if name not in {"benchmark", *measured}:
            found.setdefault(name, []).append(line)
    return found


def main() -> int:
    """Exit code 1 if any benchmark failed."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    scripts = [
        path
        for path in sorted(HERE.glob("*.py"))
        if path != Path(__file__) and not path.name.startswith("_") and wanted in path.stem
    ]
    rows: dict[str, list[str]] = {}
    failed: list[str] = []
    for script in scripts:
        found = measure(script)
        if found is None:
            failed.append(script.stem)
            continue
        rows[script.stem] = [row(script.stem, figure) for figure in found]
        print(*(json.dumps(figure) for figure in found), sep="\n", flush=True)
    results = HERE / "RESULTS.md"
    before, heading, elsewhere = results.read_text(encoding="utf-8").partition(GPU_HEADING)
    rows |= kept(before, rows)
    table = [line for name in sorted(rows) for line in rows[name]]
    results.write_text(f"{page(table, failed)}\n{heading}{elsewhere}", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
