"""The list of claims, in the order of the table."""

from collections.abc import Sequence

from .._checks import shown
from ..errors import InputError
from ._claim import AbstractClaim
from ._implicit_bias_flow import ImplicitBiasFlow
from ._margins_descent import MarginsDescent

CLAIMS: Sequence[AbstractClaim] = (ImplicitBiasFlow(), MarginsDescent())


def claim(name: str) -> AbstractClaim:
    """The claim of this name.

    Raises:
        InputError: for a name that there is none of.
    """
    for each in CLAIMS:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in CLAIMS)
    raise InputError("name", shown(name), f"one of {known}")
