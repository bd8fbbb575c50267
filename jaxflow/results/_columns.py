"""Columns: the fields of results that are arrays of numbers or words."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray

from ..errors import InputError
from ._declarations import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    Sheet,
)
from ._indexing import Index, pick


@dataclasses.dataclass(frozen=True)
class Column(AbstractDeclaration):
    """An array of numbers or words; see `column`."""

    dims: tuple[str, ...]
    text: str
    units: str = "1"
    name: str | None = None
    optional: bool = False
    fill: Any = None
    group: str | None = None
    coordinate: bool = False

    def axis(self, owner: AbstractOwner) -> int | None:
        """Which axis is that of the members, if there is one."""
        main = owner.dimension
        return self.dims.index(main) if main in self.dims else None

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        axis = self.axis(owner)
        return value if value is None or axis is None else pick(value, index, axis)

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        _check_all_or_none(name, values, owners)
        pairs = [(v, owner) for v, owner in zip(values, owners) if v is not None]
        if not pairs:
            return None
        arrays = [np.asarray(value) for value, _ in pairs]
        axis = self.axis(owners[0])
        if axis is None:
            return _one_of_all(name, arrays)
        arrays = [
            np.expand_dims(array, axis) if owner.is_single else array
            for array, (_, owner) in zip(arrays, pairs)
        ]
        if self.fill is not None:
            arrays = _as_long(arrays, axis, self.fill)
        return joined(name, arrays, axis)

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        if value is None:
            return
        place = sheet.coordinates if self.coordinate else sheet.variables
        if self.group is not None:
            place = sheet.beside.setdefault(self.group, {})
        place[self.name or name] = self.variable(value, owner)

    def variable(self, value: Any, owner: AbstractOwner) -> xarray.Variable:
        """The array with its dimensions, its unit and what a reader should know of it."""
        gone = owner.dimension if owner.is_single else None
        dims = [dim for dim in self.dims if dim != gone]
        values = np.asarray(value)
        values = values.astype(str) if values.dtype.kind == "O" else values
        return xarray.Variable(dims, values, {"long_name": self.text, "units": self.units})

    def read(self, name: str, source: AbstractSource) -> Any:
        where = source if self.group is None else source.child(self.group, {})
        stored = self.name or name
        if self.optional and stored not in where.dataset:
            return None
        values = where.dataset[stored].values
        if values.dtype.kind in "TO":
            values = np.array(values.tolist(), str)
        return values


def column(
    dims: str | Sequence[str],
    text: str,
    units: str = "1",
    *,
    name: str | None = None,
    optional: bool = False,
    fill: Any = None,
    group: str | None = None,
    coordinate: bool = False,
) -> Any:
    """Declare a field that is an array.

    Arguments:
        dims: the names of its dimensions; that of the members may stand at any place, and
            is missing in the result of a single member.
        text: what a reader of the dataset should know of it.
        units: its units, if it has any.
        name: its name in the dataset, that of the field if not given.
        optional: whether it may be `None`.
        fill: what stands behind the end of shorter rows. Results whose other dimensions are
            of different lengths can be joined only with it.
        group: the group of the tree it belongs to, in place of the dataset.
        coordinate: whether it is a coordinate.
    """
    dims = (dims,) if isinstance(dims, str) else tuple(dims)
    declaration = Column(dims, text, units, name, optional, fill, group, coordinate)
    return declared(declaration, **({"default": None} if optional else {}))


def _check_all_or_none(
    name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
) -> None:
    """Raises `InputError` if some results have this field and some have not.

    A result of no members at all misses nothing.
    """
    missing = {v is None for v, owner in zip(values, owners) if owner.size}
    if len(missing) > 1:
        raise InputError("results", f"{name} in some and not in others", "all or none")


def joined(name: str, arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Arrays one after the other, if they are of one shape and kind otherwise."""
    shapes = {(*a.shape[:axis], *a.shape[axis + 1 :]) for a in arrays}
    if len(shapes) > 1:
        found = f"{name} of shapes {', '.join(str(a.shape) for a in arrays)}"
        raise InputError("results", found, "arrays that differ in the members only")
    types = {a.dtype for a in arrays if a.dtype.kind not in "UO"}
    if len(types) > 1:
        found = f"{name} of types {', '.join(sorted(map(str, types)))}"
        raise InputError("results", found, "one type")
    return np.concatenate(arrays, axis)


def _one_of_all(name: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    first, *rest = arrays
    if not all(same_bits(first, other) for other in rest):
        raise InputError("results", f"different {name}", "results with the same")
    return first


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are the same; NaN is the same as NaN."""
    if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _as_long(arrays: Sequence[np.ndarray], axis: int, fill: Any) -> list[np.ndarray]:
    """Every array filled up to the longest in each dimension but that of the members."""
    if len({array.ndim for array in arrays}) > 1:
        return list(arrays)
    longest = np.max([array.shape for array in arrays], axis=0)

    def filled(array):
        behind = [
            (0, 0 if k == axis else int(longest[k]) - n) for k, n in enumerate(array.shape)
        ]
        if not np.any(behind):
            return array
        return np.pad(array, behind, constant_values=fill)

    return [filled(array) for array in arrays]
