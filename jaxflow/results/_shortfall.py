"""What a result falls short of, in the words of the warning that a caller gets."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

_WIDTH = 88
"""Of the lines of a warning. Chosen for a terminal."""


class Reason(NamedTuple):
    """Why some members are not where they were to be."""

    what: str  # such as the name of a status
    num: int  # members
    where: str  # what is known of them
    advice: str  # what to try


def shortfall(head: str, reasons: Sequence[Reason], look: str = "") -> str | None:
    """The text of a warning; `None` where there are no reasons.

    Arguments:
        head: a sentence with how many of how many members it is about.
        reasons: why.
        look: where to look for more.
    """
    if not reasons:
        return None
    lines = [head]
    for reason in reasons:
        members = "member" if reason.num == 1 else "members"
        text = f"{reason.what}: {reason.num:,} {members}{reason.where}. {reason.advice}"
        lines += textwrap.wrap(
            text.strip(), _WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    return "\n".join([*lines, *([f"  {look}"] if look else [])])


def some_of(num: int, total: int) -> str:
    """How many members, as the subject of a sentence."""
    if total == 1:
        return "The only member"
    return f"{num:,} of {total:,} members"
