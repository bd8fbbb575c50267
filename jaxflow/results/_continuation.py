"""From where the members of a result can go on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._declarations import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    Sheet,
)
from ._indexing import Index


@dataclasses.dataclass(frozen=True, eq=False)
class Continuation:
    """What it takes to go on exactly, of some members of a run.

    It belongs to this process: a pickle and a file hold none of it.

    Arguments:
        simulation: the run.
        rows: of the members in it, (num,).
        read_lanes: a function of places that gives the bytes of the lanes there, (num, …).
        places: of these members, (num,).
    """

    simulation: Any
    rows: np.ndarray
    read_lanes: Callable[[np.ndarray], np.ndarray]
    places: np.ndarray

    def lanes(self, which: np.ndarray) -> np.ndarray:
        """The lanes of some of these members, as bytes (num, …)."""
        return self.read_lanes(self.places[which])

    def of(self, index: Index) -> "Continuation":
        """Some of these members."""
        rows, places = (np.atleast_1d(each[index]) for each in (self.rows, self.places))
        return dataclasses.replace(self, rows=rows, places=places)

    def __reduce__(self) -> tuple[Any, ...]:
        return _none, ()


def _none() -> None:
    """What a pickle has in its place."""


@dataclasses.dataclass(frozen=True)
class _Continued(AbstractDeclaration):
    """From where members can go on; `None` if that is not known."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        return None if value is None else value.of(index)

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        first, *rest = values
        if first is None or not all(_of_one_run(first, other) for other in rest):
            return None
        joined = {
            part: np.concatenate([getattr(value, part) for value in values])
            for part in ("rows", "places")
        }
        return dataclasses.replace(first, **joined)

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        """It is kept by stores of runs only."""

    def read(self, name: str, source: AbstractSource) -> Any:
        return None


def _of_one_run(one: Any, other: Any) -> bool:
    return other is not None and one.read_lanes is other.read_lanes


def continued() -> Any:
    """Declare the field of a `Continuation`."""
    return declared(_Continued(), default=None)
