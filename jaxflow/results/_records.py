"""What was recorded along the way, and what it cost."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from ..errors import InputError
from ..quantities import quantity
from ._columns import column, joined, same_bits
from ._declarations import (
    AbstractDeclaration,
    AbstractOwner,
    AbstractSource,
    declared,
    MEMBERS,
    Sheet,
)
from ._indexing import Index, pick
from ._plain import check_agree

GRID_POINTS = "grid_point"
"""The dimension of grids that differ from member to member."""
PATH_POINTS = "record"
"""The dimension of points along each member's own path."""
COUNT = "num_records"
"""The column of how many points along its path a member has."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stats:
    """What each member cost. Arrays (num,), or scalars for a single network."""

    num_steps: np.ndarray = column(MEMBERS, "attempted steps", "steps")
    """Attempted steps."""
    num_accepted: np.ndarray = column(MEMBERS, "accepted steps", "steps")
    """Steps accepted."""
    num_rejected: np.ndarray = column(MEMBERS, "rejected steps", "steps")
    """Steps rejected, those cut short to land on a stop condition included."""
    num_vjps: np.ndarray | None = column(
        MEMBERS, "vector-Jacobian products of the network", "evaluations", optional=True
    )
    """Vector-Jacobian products of the network, those for spectral radii included; `None`
    where the solver does not count its evaluations (diffrax's implicit methods)."""
    num_stabilized: np.ndarray | None = column(
        MEMBERS, "accepted steps of a stabilized method", "steps", optional=True
    )
    """Accepted steps that a stabilized method made; `None` with other solvers."""
    num_power_iterations: np.ndarray | None = column(
        MEMBERS,
        "vector-Jacobian products that went into spectral radii",
        "evaluations",
        optional=True,
    )
    """Vector-Jacobian products that went into spectral radii; `None` with other solvers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """What was recorded along the way."""

    over: str
    """The quantity along which the grid runs, such as `"rescaled_time"`."""
    grid: np.ndarray
    """(points,), or (num, points) where every member had a grid of its own, or points
    along its own path."""
    values: Mapping[str, np.ndarray]
    """By name, (num, points, …); NaN at points that a member did not reach."""
    dims: Mapping[str, tuple[str, ...]]
    """By name, what the axes after `points` are, such as `("layer",)`."""
    own: bool = False
    """Whether a grid (points,) is that of a single member, from a run of many grids."""
    coordinates: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """By name, where points along each member's own path are, in all quantities of time and
    size that the flow shows: (num, points). None for a grid."""
    count: np.ndarray | None = None
    """How many points along its path a member has, (num,); rows behind that are NaN."""

    @property
    def is_own(self) -> bool:
        """Whether every member has a grid of its own."""
        return self.own or self.grid.ndim == 2

    @property
    def axis(self) -> str:
        """The dimension of the points in a dataset."""
        if self.count is not None:
            return PATH_POINTS
        return GRID_POINTS if self.is_own else self.over


@dataclasses.dataclass(frozen=True)
class _Recorded(AbstractDeclaration):
    """The field of what was recorded, which may be `None`."""

    def select(self, value: Any, index: Index, owner: AbstractOwner) -> Any:
        if value is None:
            return None
        grid = pick(value.grid, index) if value.is_own else value.grid
        return dataclasses.replace(
            value,
            grid=grid,
            values=_picked(value.values, index),
            own=value.is_own and grid.ndim == 1,
            coordinates=_picked(value.coordinates, index),
            count=None if value.count is None else pick(value.count, index),
        )

    def join(
        self, name: str, values: Sequence[Any], owners: Sequence[AbstractOwner]
    ) -> Any:
        if all(value is None for value in values):
            return None
        if any(value is None for value in values):
            raise InputError("results", "some with records and some without", "all or none")
        first = values[0]
        check_agree("record_over", [value.over for value in values])
        check_agree("recorded names", [sorted(value.values) for value in values])
        check_agree("recorded dimensions", [value.dims for value in values])
        check_agree("record_at", [value.axis for value in values])
        check_agree("recorded coordinates", [sorted(value.coordinates) for value in values])
        counts = [value.count for value in values]
        rows = lambda name, arrays: joined(name, _rows(arrays, owners), 0)
        return dataclasses.replace(
            first,
            grid=_joined_grid(values, owners),
            own=False,
            values={
                each: rows(each, [v.values[each] for v in values]) for each in first.values
            },
            coordinates={
                each: rows(each, [v.coordinates[each] for v in values])
                for each in first.coordinates
            },
            count=None if first.count is None else rows(COUNT, counts),
        )

    def write(self, name: str, value: Any, owner: AbstractOwner, sheet: Sheet) -> None:
        if value is None:
            return
        members = () if owner.is_single else (owner.dimension,)
        axis = value.axis
        grid_dims = (*members, axis) if value.is_own else (axis,)
        for each, found in ({value.over: value.grid} | {**value.coordinates}).items():
            about = quantity(each)
            attrs = {"long_name": about.meaning, "units": about.units}
            sheet.coordinates[each] = xarray.Variable(grid_dims, found, attrs)
        if value.count is not None:
            attrs = {"long_name": "points recorded along the path", "units": "points"}
            sheet.variables[COUNT] = xarray.Variable(members, value.count, attrs)
        stored = getattr(value.values, "variable", None)
        for each in value.values:
            dims = (*members, axis, *value.dims[each])
            attrs = {"long_name": f"recorded function {each!r}", "units": "1"}
            sheet.variables[each] = (
                xarray.Variable(dims, value.values[each], attrs)
                if stored is None
                else stored(each)
            )
        sheet.about[name] = {"over": value.over, "dims": value.dims}
        if value.count is not None:
            sheet.about[name]["coordinates"] = list(value.coordinates)

    def read(self, name: str, source: AbstractSource) -> Any:
        described = source.about.get(name)
        if described is None:
            return None
        dims = {each: tuple(axes) for each, axes in described["dims"].items()}
        if missing := [each for each in dims if each not in source.dataset]:
            raise KeyError(missing[0])
        grid = source.dataset[described["over"]]
        coordinates = described.get("coordinates")
        if coordinates is not None:
            count, own = source.dataset[COUNT].values, grid.ndim == 1
        else:
            count, own = None, grid.dims == (GRID_POINTS,)
        return Records(
            over=described["over"],
            grid=grid.values,
            values=_Stored(source.dataset, tuple(dims)),
            dims=dims,
            own=own,
            coordinates=_Stored(source.dataset, tuple(coordinates or ())),
            count=count,
        )


def recorded() -> Any:
    """Declare the field of what was recorded."""
    return declared(_Recorded())


def _rows(
    arrays: Sequence[np.ndarray], owners: Sequence[AbstractOwner]
) -> list[np.ndarray]:
    return [
        np.asarray(array)[None] if owner.is_single else np.asarray(array)
        for array, owner in zip(arrays, owners)
    ]


def _joined_grid(values: Sequence[Records], owners: Sequence[AbstractOwner]) -> np.ndarray:
    first, *rest = values
    grids = [value.grid for value in values]
    if all(value.is_own for value in values):
        return joined("grid", _rows(grids, owners), 0)
    alike = not any(value.is_own for value in values)
    if not alike or not all(same_bits(first.grid, value.grid) for value in rest):
        raise InputError("results", "different grids", "results with the same record_at")
    return first.grid


class _Stored(Mapping[str, np.ndarray]):
    """Recorded values by name, read from a dataset when they are asked for."""

    def __init__(self, dataset: xarray.Dataset, names: tuple[str, ...]):
        self._dataset = dataset
        self._names = names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        return self._dataset[name].values

    def __iter__(self):
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def variable(self, name: str) -> xarray.Variable:
        """One of them, still to be read."""
        return self._dataset.variables[name]

    def rows(self, index: Index) -> "_Stored":
        """Those of some members, still to be read."""
        return _Stored(self._dataset.isel({MEMBERS: index}), self._names)


def _picked(values: Mapping[str, np.ndarray], index: Index) -> Mapping[str, np.ndarray]:
    own: Callable | None = getattr(values, "rows", None)
    if own is not None:
        return own(index)
    return {name: pick(array, index) for name, array in values.items()}
