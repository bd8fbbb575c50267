"""A summary of a result, declared once and shown as text or in a notebook."""

import html
import itertools
import math
from typing import NamedTuple

import numpy as np

_GAP = "  "


class Table(NamedTuple):
    """Rows of cells under a header, or without one."""

    rows: tuple[tuple[str, ...], ...]
    header: tuple[str, ...] = ()
    align: str = ""
    """One character for each column, `<` to the left and `>` to the right. What is not
    said is to the right under a header and to the left without one."""
    widths: tuple[int, ...] = ()
    """The least width of each column of text."""

    @property
    def sides(self) -> list[str]:
        """On which side each column stands."""
        rest = itertools.repeat(">" if self.header else "<")
        columns = max(map(len, (self.header, *self.rows)), default=0)
        return list(itertools.islice(itertools.chain(self.align, rest), columns))


class Summary(NamedTuple):
    """What printing a result shows: a headline, and below it lines of text and tables."""

    headline: str
    parts: tuple[str | Table, ...] = ()


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
    return float(low / 2 + high / 2 if np.isfinite(low) and np.isfinite(high) else low)


def power_of_ten(exponent: float) -> str:
    """`10**exponent` in words, also where no float holds it."""
    if abs(exponent) < 4:
        return f"{10**exponent:.4g}"
    whole = math.floor(exponent)
    # Rounding may carry: whatever power of ten the mantissa is written with counts too.
    digits, _, carried = f"{10.0 ** (float(exponent) - whole):.2e}".partition("e")
    return f"{digits}e{whole + int(carried):+d}"


def as_text(summary: Summary) -> str:
    """The summary in lines of text."""
    lines = itertools.chain.from_iterable(
        [part] if isinstance(part, str) else _lines(part) for part in summary.parts
    )
    return "\n".join([summary.headline, *(f"  {line}".rstrip() for line in lines)])


def _lines(table: Table) -> list[str]:
    rows = [row for row in (table.header, *table.rows) if row]
    columns = itertools.zip_longest(*rows, fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    least = itertools.chain(table.widths, itertools.repeat(0))
    widths = [*map(max, widths, least)]
    return [
        _GAP.join(f"{cell:{s}{w}}" for cell, s, w in zip(row, table.sides, widths))
        for row in rows
    ]


def as_html(summary: Summary) -> str:
    """The same cells in HTML."""
    return "".join(
        [
            f"<div><strong>{html.escape(summary.headline)}</strong></div>",
            *(
                f"<div>{html.escape(part)}</div>" if isinstance(part, str) else _html(part)
                for part in summary.parts
            ),
        ]
    )


def _html(table: Table) -> str:
    header = [_row("th", table.header, table.sides)] if table.header else []
    rows = [_row("td", row, table.sides) for row in table.rows]
    return "".join(["<table>", *header, *rows, "</table>"])


def _row(tag: str, cells: tuple[str, ...], sides: list[str]) -> str:
    names = {"<": "left", ">": "right"}
    inside = "".join(
        f'<{tag} style="text-align: {names[side]}">{html.escape(cell)}</{tag}>'
        for cell, side in zip(cells, sides)
    )
    return f"<tr>{inside}</tr>"
