"""Verdicts and claims as tables, for a terminal and for pages."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table

from ._claim import AbstractClaim, FAILED, HELD, OUTSIDE, Verdict
from ._seen import seen

_STYLES = {HELD: "green", FAILED: "red", OUTSIDE: "yellow"}


def table_of_verdicts(
    claim: AbstractClaim, verdicts: Sequence[Verdict]
) -> rich.table.Table:
    """One line for each statement."""
    table = rich.table.Table(
        title=f"{claim.title} (arXiv:{claim.paper.arxiv})",
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
    )
    for name in ("statement", "seen", "bound", "because", ""):
        table.add_column(name, justify="right" if name in ("seen", "bound") else "left")
    for each in verdicts:
        state = f"[{_STYLES[each.state]}]{each.state}[/]"
        statement = each.statement + (f" ({each.note})" if each.note else "")
        table.add_row(statement, f"{each.figure:.4g}", each.bound, each.reason, state)
    return table


def in_a_line(states: Sequence[str]) -> str:
    """How many statements held, and what became of the others."""
    counts = collections.Counter(states)
    words = [f"{counts[HELD]} of {len(states)} held"]
    words += [f"{counts[state]} {state}" for state in (FAILED, OUTSIDE) if counts[state]]
    return ", ".join(words)


def states_of(run: Mapping[str, Any] | None) -> str:
    """What became of the statements in a run that was seen before."""
    if run is None:
        return "not run yet"
    return in_a_line([each["state"] for each in run["verdicts"]])


def seconds_of(run: Mapping[str, Any] | None) -> str:
    return "–" if run is None else f"{run['seconds']:.0f} s"


def table_of_claims(claims: Sequence[AbstractClaim]) -> rich.table.Table:
    """All claims, and what was seen of them when the package was made."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ("claim", "paper", "what was seen", "quick", "full"):
        right = name in ("quick", "full")
        table.add_column(name, justify="right" if right else "left")
    for each in claims:
        quick, full = seen(each.name, "quick"), seen(each.name, "full")
        table.add_row(
            each.name,
            f"{each.title} (arXiv:{each.paper.arxiv})",
            states_of(full or quick),
            seconds_of(quick),
            seconds_of(full),
        )
    return table
