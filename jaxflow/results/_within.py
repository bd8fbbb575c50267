"""Results inside results."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _store as store
from ._declarations import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    Sheet,
)
from ._indexing import Index
from ._result import AbstractResult, concat, read_result


@dataclasses.dataclass(frozen=True)
class _Within(AbstractDeclaration):
    """A result inside another one."""

    cls: type[AbstractResult]
    repeated: bool
    renamed: tuple[tuple[str, str], ...]

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        if not self.repeated:
            return value[index]
        return value[_grid(value, owner)[:, index].ravel()]

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        whole = concat(values)
        if not self.repeated:
            return whole
        first, grids = 0, []
        for value, owner in zip(values, owners):
            if value.size:
                grids.append(first + _grid(value, owner))
            first += value.size
        return whole[np.concatenate(grids, axis=1).ravel()] if grids else whole

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        sheet.groups[name] = lambda: store.renamed(value.tree, dict(self.renamed))

    def read(self, name: str, source: AbstractSource) -> Any:
        back = {new: old for old, new in self.renamed}
        return read_result(self.cls, source.child(name, back))


def within(cls: type[AbstractResult], *, repeated: bool = False, **renamed: str) -> Any:
    """Declare a field that is a result of its own, in a group below the dataset.

    Arguments:
        cls: its kind.
        repeated: whether its members are those of the outer result several times, all of
            them before they come again.
        renamed: names of the inner dataset that mean something else in the outer one, and
            what they are called in the tree.
    """
    return declared(_Within(cls, repeated, tuple(renamed.items())))


def _grid(value: AbstractResult, owner: AbstractOwner) -> np.ndarray:
    """The places of the inner members: a row for each time, a column for each outer one."""
    return np.arange(value.size).reshape(-1, max(owner.size, 1))
