"""A figure's numbers: a table to read where it is short, and a file to take away, both within the page."""

import base64
import gzip
import math
from typing import Any

import pandas as pd

MOST_ROWS = 40
"""Rows that are shown on the page; longer tables are only a file."""
PLAIN_BYTES = 50_000
"""A larger file is compressed: 80,000 targets of several people would take more room than all
pictures."""
DIGITS = 6


def numbers(name: str, table: pd.DataFrame, digits: int = DIGITS) -> dict[str, Any]:
    """What `figures.html` shows of a figure's numbers.

    name: of the file, without its ending.  digits: significant ones of each number in the file.  The file is
    CSV in UTF-8, gzipped where it is large (R and pandas read it as it is), in the address of a link.
    """
    content = table.to_csv(index=False, float_format=f"%.{digits}g").encode()
    kind, ending = "text/csv;charset=utf-8", "csv"
    if len(content) > PLAIN_BYTES:
        # without a time: the same numbers give the same page
        content, kind, ending = gzip.compress(content, mtime=0), "application/gzip", "csv.gz"
    return {
        "file": f"{name}.{ending}",
        "href": f"data:{kind};base64,{base64.b64encode(content).decode()}",
        "columns": [str(column).replace("_", " ") for column in table.columns],
        "rows": [] if len(table) > MOST_ROWS else [[_cell(value) for value in row] for row in _rows(table)],
        "length": f"{len(table):,}",
    }


def _rows(table: pd.DataFrame) -> list[list[Any]]:
    return table.astype(object).where(table.notna(), None).to_numpy().tolist()


def _cell(value: Any) -> str:
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float):
        said = f"{value:.4g}" if math.isfinite(value) else "\N{EN DASH}"
        return said.replace("-", "\N{MINUS SIGN}")
    return str(value)
