"""Commented study files to begin with, one for each equation and analysis."""

import importlib.resources
from collections.abc import Sequence

from ..errors import InputError
from . import _schema as schema


def kinds() -> Sequence[str]:
    """The names of all starters: those of equations and analyses."""
    return (*schema.EQUATIONS, *schema.ANALYSES)


def starter(kind: str) -> str:
    """The text of a starter.

    Raises:
        InputError: for a kind that there is none of.
    """
    if kind not in kinds():
        raise InputError("kind", repr(kind), f"one of {', '.join(kinds())}")
    folder = importlib.resources.files("jaxflow.studies") / "starters"
    return (folder / f"{kind}.toml").read_text(encoding="utf-8")
