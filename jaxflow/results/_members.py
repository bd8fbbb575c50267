"""The numbers of the members, which stay with them when some are picked."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray

from ._declarations import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    MEMBERS,
    Sheet,
)
from ._indexing import Index, pick

NUMBER_ATTRS = {"long_name": "number of the member", "units": "1"}


@dataclasses.dataclass(frozen=True)
class _Numbers(AbstractDeclaration):
    """The number of each member, `None` for 0, 1, …; the coordinate of the members."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return brief(pick(_numbers(value, owner), index))

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        # Networks of single runs have no numbers: they get new ones.
        if any(v is None and owner.is_single for v, owner in zip(values, owners)):
            return None
        pairs = zip(values, owners)
        return brief(np.concatenate([_numbers(v, owner) for v, owner in pairs]))

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        if value is None and owner.is_single:
            return
        numbers = value if owner.is_single else _numbers(value, owner)
        dims = () if owner.is_single else (owner.dimension,)
        coordinate = xarray.Variable(dims, numbers, NUMBER_ATTRS)
        sheet.coordinates[owner.dimension] = coordinate

    def read(self, name: str, source: AbstractSource) -> Any:
        given = source.dataset.coords.get(MEMBERS)
        return None if given is None else brief(given.values)


def numbers() -> Any:
    """Declare the field of the members' numbers."""
    return declared(_Numbers(), default=None)


def _numbers(value: Any, owner: AbstractOwner) -> np.ndarray:
    if value is None:
        return np.arange(owner.size, dtype=np.int64)
    return np.atleast_1d(np.asarray(value, np.int64))


def brief(numbers: np.ndarray) -> np.ndarray | None:
    """`None` for the numbers 0, 1, …, so that equal ones are equal however they arose."""
    numbers = np.asarray(numbers, np.int64)
    same = numbers.ndim == 1 and np.array_equal(numbers, np.arange(len(numbers)))
    return None if same else numbers
