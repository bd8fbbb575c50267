"""What was recorded along the way, and what it cost."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
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
from ._indexing import Index, pick, pick_networks
from ._plain import check_agree
from ._weights import described, leaf_names

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
    values: Mapping[str, Any]
    """By name, (num, points, …), or a pytree of such arrays where the recorded function
    gives one, as `jaxflow.weights` does; NaN at points that a member did not reach."""
    dims: Mapping[str, tuple[str, ...]]
    """What the axes after `points` are, such as `("layer",)`, by the names of the variables
    in a dataset: `weights_factors_0` for the leaf `.factors[0]` of `weights`."""
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
                each: _joined_trees(each, [v.values[each] for v in values], owners)
                for each in first.values
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
        stored: Callable | None = getattr(value.values, "variable", None)
        arrays = {} if stored is not None else _all_variables(value.values)
        for each, axes in value.dims.items():
            attrs = {"long_name": f"recorded function {each!r}", "units": "1"}
            dims = (*members, axis, *axes)
            sheet.variables[each] = (
                xarray.Variable(dims, np.asarray(arrays[each]), attrs)
                if stored is None
                else stored(each)
            )
        sheet.about[name] = {"over": value.over, "dims": value.dims}
        structures = getattr(value.values, "structures", None)
        if structures is None:
            trees = {n: v for n, v in value.values.items() if not eqx.is_array(v)}
            structures = {n: [described(v), _prefixed(n, v)] for n, v in trees.items()}
        sheet.about[name]["structures"] = structures
        if value.count is not None:
            sheet.about[name]["coordinates"] = list(value.coordinates)

    def read(self, name: str, source: AbstractSource) -> Any:
        about = source.about.get(name)
        if about is None:
            return None
        dims = {each: tuple(axes) for each, axes in about["dims"].items()}
        structures = about.get("structures", {})
        inside = {variable for _, names in structures.values() for variable in names}
        names = (*(each for each in dims if each not in inside), *structures)
        if missing := [each for each in dims if each not in source.dataset]:
            raise KeyError(missing[0])
        grid = source.dataset[about["over"]]
        coordinates = about.get("coordinates")
        if coordinates is not None:
            count, own = source.dataset[COUNT].values, grid.ndim == 1
        else:
            count, own = None, grid.dims == (GRID_POINTS,)
        return Records(
            over=about["over"],
            grid=grid.values,
            values=_Stored(source, source.dataset, names, structures),
            dims=dims,
            own=own,
            coordinates=_Stored(source, source.dataset, tuple(coordinates or ()), {}),
            count=count,
        )


def recorded() -> Any:
    """Declare the field of what was recorded."""
    return declared(_Recorded())


def _rows(arrays: Sequence[Any], owners: Sequence[AbstractOwner]) -> list[np.ndarray]:
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


def recorded_variables(name: str, value: Any) -> dict[str, Any]:
    """The arrays of what a function gives, by the names of their variables."""
    if jax.tree_util.all_leaves([value]):
        return {name: value}
    leaves = [x for x in jax.tree_util.tree_leaves(value) if hasattr(x, "shape")]
    return dict(zip(_prefixed(name, value), leaves, strict=True))


def _prefixed(name: str, tree: Any) -> list[str]:
    return [f"{name}_{leaf}" for leaf in leaf_names(tree)]


def _all_variables(values: Mapping[str, Any]) -> dict[str, Any]:
    found = [recorded_variables(name, value) for name, value in values.items()]
    return {name: array for each in found for name, array in each.items()}


def _joined_trees(name: str, trees: Sequence[Any], owners: Sequence[AbstractOwner]) -> Any:
    def one(*leaves):
        if not eqx.is_array(leaves[0]):
            return leaves[0]
        return joined(name, _rows(leaves, owners), 0)

    return jax.tree_util.tree_map(one, *trees)


class _Stored(Mapping[str, Any]):
    """Recorded values by name, read from a dataset when they are asked for.

    Given the `source`, its dataset or some members of it, the names, and by the names of
    pytrees their structures and the names of their variables.
    """

    def __init__(
        self,
        source: AbstractSource,
        dataset: xarray.Dataset,
        names: tuple[str, ...],
        structures: Mapping[str, Any],
    ):
        self._source = source
        self._dataset = dataset
        self._names = names
        self.structures = structures

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self.structures:
            return self._dataset[name].values
        structure, variables = self.structures[name]
        arrays = {v.removeprefix(f"{name}_"): self._dataset[v].values for v in variables}
        return self._source.rebuilt(arrays, structure)

    def __iter__(self):
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def variable(self, name: str) -> xarray.Variable:
        """One of their variables, still to be read."""
        return self._dataset.variables[name]

    def rows(self, index: Index) -> "_Stored":
        """Those of some members, still to be read."""
        some = self._dataset.isel({MEMBERS: index})
        return _Stored(self._source, some, self._names, self.structures)


def _picked(values: Mapping[str, Any], index: Index) -> Mapping[str, Any]:
    own: Callable | None = getattr(values, "rows", None)
    if own is not None:
        return own(index)
    return {name: pick_networks(value, index) for name, value in values.items()}
