"""Verdicts and claims as tables, for a terminal and for pages."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table
import rich.text

from ._claim import AbstractClaim, FAILED, HELD, OUTSIDE
from ._seen import seen

Rows = Sequence[Mapping[str, Any]]
_STYLES = {HELD: "green", FAILED: "red", OUTSIDE: "yellow"}
_HEADS = ("statement", "seen", "bound", "because", "verdict")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    statement = row["statement"] + (f" ({row['note']})" if row["note"] else "")
    return statement, row["seen"], row["bound"], row["reason"], row["state"]


def table_of_verdicts(claim: AbstractClaim, rows: Rows) -> rich.table.Table:
    """One line for each statement, for a terminal."""
    table = rich.table.Table(
        title=f"{claim.title} (arXiv:{claim.paper.arxiv})",
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
    )
    for name in _HEADS:
        table.add_column(name, justify="right" if name in ("seen", "bound") else "left")
    for row in rows:
        table.add_row(*map(rich.text.Text, _cells(row)), style=_STYLES[row["state"]])
    return table


def page_of_verdicts(run: Mapping[str, Any] | None) -> str:
    """The same in Markdown, with when and with what it was computed."""
    if run is None:
        return "Not run yet."
    lines = _markdown(_HEADS, [_cells(row) for row in run["verdicts"]], "lrrll")
    made = f"jaxflow {run['versions']['jaxflow_version']}"
    size, seconds = run["size"], seconds_of(run)
    return f"{lines}\n\nThe {size} size, {run['date']}, {made}: {seconds} on two cores."


def in_a_line(rows: Rows) -> str:
    """How many statements held, and what became of the others."""
    counts = collections.Counter(row["state"] for row in rows)
    words = [f"{counts[HELD]} of {len(rows)} statements held"]
    words += [f"{counts[state]} {state}" for state in (FAILED, OUTSIDE) if counts[state]]
    return ", ".join(words)


def _seen_in_a_line(name: str) -> str:
    run = seen(name, "full") or seen(name, "quick")
    return "not run yet" if run is None else in_a_line(run["verdicts"])


def seconds_of(run: Mapping[str, Any] | None) -> str:
    return "–" if run is None else f"{run['seconds']:.0f} s"


def _times(name: str) -> tuple[str, str]:
    return seconds_of(seen(name, "quick")), seconds_of(seen(name, "full"))


def table_of_claims(claims: Sequence[AbstractClaim]) -> rich.table.Table:
    """All claims, and what was seen of them when the package was made."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ("claim", "paper", "what was seen", "quick", "full"):
        right = name in ("quick", "full")
        table.add_column(name, justify="right" if right else "left")
    for each in claims:
        paper = f"{each.title} (arXiv:{each.paper.arxiv})"
        table.add_row(each.name, paper, _seen_in_a_line(each.name), *_times(each.name))
    return table


def table_of_runs(runs: Sequence[Mapping[str, Any]]) -> rich.table.Table:
    """What was seen of claims that were run now."""
    total = sum(run["seconds"] for run in runs)
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_footer=True)
    table.add_column("claim", "all")
    table.add_column("what was seen", in_a_line([v for r in runs for v in r["verdicts"]]))
    table.add_column("time", f"{total:.0f} s", justify="right")
    for run in runs:
        table.add_row(run["claim"], in_a_line(run["verdicts"]), seconds_of(run))
    return table


def page_of_claims(claims: Sequence[AbstractClaim], folder: str) -> str:
    """The same in Markdown, with links to the pages in a folder."""
    rows = [
        (
            f"[{each.title}]({folder}{each.name}.md)",
            f"[arXiv:{each.paper.arxiv}]({each.paper.link})",
            _seen_in_a_line(each.name),
            " / ".join(_times(each.name)),
        )
        for each in claims
    ]
    return _markdown(("claim", "paper", "what was seen", "quick / full"), rows, "lllr")


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    rule = ["---:" if side == "r" else "---" for side in sides]
    plain = lambda text: text.replace("|", r"\|").replace("<", "&lt;")
    lines = [heads, rule, *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
