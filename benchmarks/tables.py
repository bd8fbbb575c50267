"""The tables of README.md, from the files in results/.

    python -m benchmarks.tables     # writes them again

A table stands between `<!-- results of NAME -->` and `<!-- end of results -->`.
"""

import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from .reporting import RESULTS

README = pathlib.Path(__file__).parent / "README.md"
_PLACES = re.compile(
    r"(<!-- results of (?P<name>\w+) -->\n).*?(<!-- end of results -->)", re.DOTALL
)


def fill(text: str) -> str:
    """The same text with every table as the results have it."""

    def filled(place: re.Match[str]) -> str:
        path = RESULTS / f"{place['name']}.json"
        parts = json.loads(path.read_text())
        tables = "\n".join(_table(part) for part in parts.values())
        return f"{place[1]}\n{tables}\n{place[3]}"

    return _PLACES.sub(filled, text)


def _table(part: Mapping[str, Any]) -> str:
    """One part's: what was measured, when, and the rows."""
    columns = part["columns"]
    rules = ["---"] + ["---:"] * (len(columns) - 1)
    lines = [_line(row) for row in (columns, rules, *part["rows"])]
    return "\n".join([f"**{part['title']}**, {part['date']}.", "", *lines, ""])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    README.write_text(fill(README.read_text()))
