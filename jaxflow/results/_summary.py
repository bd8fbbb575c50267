"""A summary of a result, declared once and shown as text or in a notebook."""

import html
import math
from typing import NamedTuple

import numpy as np

_NAMES = 15  # wide enough for the names of rows


class Summary(NamedTuple):
    """What printing a result shows: a table between some lines of text.

    Without a `header` the first cell of each row is its name.
    """

    headline: str
    rows: tuple[tuple[str, ...], ...] = ()
    header: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    """The least width of each column of text."""


def median(values: np.ndarray) -> float:
    """The median of the values that are not NaN; NaN if there are none.

    Of an even number the mean of the two in the middle, or the lower one where either is
    infinite.
    """
    values = np.asarray(values, float)
    known = np.sort(values[~np.isnan(values)])
    if not known.size:
        return math.nan
    low, high = known[(known.size - 1) // 2], known[known.size // 2]
    return float((low + high) / 2 if np.isfinite(low) and np.isfinite(high) else low)


def power_of_ten(exponent: float) -> str:
    """`10**exponent` in words, also where no float holds it."""
    if abs(exponent) < 4:
        return f"{10**exponent:.4g}"
    # A mantissa of 9.995 or more would be written as 10.00.
    whole = math.floor(exponent + 1 - math.log10(9.995))
    return f"{10 ** (exponent - whole):.2f}e{whole:+d}"


def as_text(summary: Summary) -> str:
    """The summary in lines of text."""
    lines = [
        *summary.before,
        *(_table(summary) if summary.header else _named_rows(summary)),
        *summary.after,
    ]
    return "\n".join([summary.headline, *(f"  {line}" for line in lines)])


def _named_rows(summary: Summary) -> list[str]:
    return [f"{name:<{_NAMES}}{'  '.join(cells)}" for name, *cells in summary.rows]


def _table(summary: Summary) -> list[str]:
    rows = [summary.header, *summary.rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    widths = [*map(max, widths, summary.widths or widths)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows
    ]


def as_html(summary: Summary) -> str:
    """The same cells as an HTML table."""
    rows = [_row("td", cells, bool(summary.header)) for cells in summary.rows]
    header = [_row("th", summary.header, True)] if summary.header else []
    return "".join(
        [
            f"<div><strong>{html.escape(summary.headline)}</strong></div>",
            *(f"<div>{html.escape(line)}</div>" for line in summary.before),
            "<table>",
            *header,
            *rows,
            "</table>",
            *(f"<div>{html.escape(line)}</div>" for line in summary.after),
        ]
    )


def _row(tag: str, cells: tuple[str, ...], to_the_right: bool) -> str:
    style = f' style="text-align: {"right" if to_the_right else "left"}"'
    inside = "".join(f"<{tag}{style}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"
