"""What is recorded along the way."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, NamedTuple, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks import check_numbers, check_whole, is_whole, shown
from ..engine import Problem
from ..errors import InputError
from ..flows import places_of, put, Snapshot
from ..networks import member, members, num_members, unflattener
from ..observables import dimensions
from ..results import recorded_variables, RESERVED
from ..tasks import AbstractTask
from ._networks import AbstractNetworks
from ._numbers import of_rows
from ._places import AbstractPlaces, AlongPath, OnGrid


class Record(eqx.Module):
    """Functions of (network, task) to be recorded along each member's path.

    Arguments:
        functions: by name, each giving one real array, or a pytree of such, as
            `jaxflow.weights` gives whole networks.
        at: how many points along each member's own path, 2 or more; or an increasing grid,
            (points,), or (num, points) with one for each member.
        over: the quantity that a grid runs over: `"rescaled_time"`, `"time"`, `"log_time"`,
            `"log_norm"`, or another that the flow shows (`jaxflow.quantities`). What the
            equation has for a clock if not given. So many points are spread evenly over
            that quantity if it is given, and over the path if not.
        every: in place of `at`: the start, every so many accepted steps, and the end.

    Points along the path are spread over what changes: an e-fold of the norm, of the loss
    or of the time counts as much as a turn of the weights by one radian, though no step
    counts more than a half. Updates of an optimizer and steps with noise count one each.
    The first and the last state are always among the points. A member that makes enough
    steps gets between half of `at` and `at` points, others eight a step or fewer.

    Raises:
        InputError: for what cannot be recorded, at once or where it is used.

    Examples:
        >>> import jax, jaxflow as jf
        >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
        >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
        >>> record = jf.Record({"norm": jf.norm}, [0.0, 0.5], over="time")
        >>> solution = jf.gradient_flow(network, task, stop=jf.Time(0.5), record=record)
        >>> solution.records.values["norm"].shape
        (2,)
        >>> record = jf.Record({"norm": jf.norm}, 20)
        >>> solution = jf.gradient_flow(network, task, stop=jf.Time(0.5), record=record)
        >>> solution.dataset["time"].values[[0, solution.records.count - 1]].round(
        ...     6
        ... ).tolist()
        [0.0, 0.5]
    """

    functions: Mapping[str, Callable]
    at: Any = None
    over: str | None = eqx.field(static=True, default=None)
    every: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_functions("functions", self.functions)
        check_at("at", self.at, "every", self.every)
        if self.over is not None:
            check_over("over", self.over)

    def settled(
        self,
        default_over: str,
        networks: AbstractNetworks,
        task: AbstractTask,
        max_steps: int,
    ) -> "Record":
        """Checked, with its grid as an array."""
        at = check_at("record_at", self.at, "every", self.every)
        over = self.over
        if np.ndim(at):
            over = default_over if over is None else over
            if at.ndim == 2 and len(at) != networks.num:
                own = "" if networks.num is None else f" or ({networks.num}, points)"
                raise InputError("record_at", f"shape {at.shape}", f"(points,){own}")
        if self.every is not None and _rows_of_steps(self.every, max_steps) > MOST_ROWS:
            found = f"{self.every} of up to {max_steps:,} steps"
            expected = f"at most {MOST_ROWS:,} points: fewer max_steps, or at= so many"
            raise InputError("every", found, expected)
        settled = Record(dict(self.functions), at, over, self.every)
        if over in settled.functions:
            found = f"the name {over!r}, over which the grid runs"
            raise InputError("record", found, "another name")
        _check_names(settled.dims(settled.examples(networks, task)))
        return settled

    def examples(self, networks: AbstractNetworks, task: AbstractTask) -> dict[str, Any]:
        """What one member records at one point: an array, or a pytree of arrays."""
        return {
            name: _example(name, function, networks, task)[0]
            for name, function in self.functions.items()
        }

    def rest(self, networks: AbstractNetworks, task: AbstractTask) -> dict[str, Any]:
        """What recorded pytrees have beside arrays, such as the functions of a network."""
        return {
            name: _example(name, function, networks, task)[1]
            for name, function in self.functions.items()
        }

    def dims(self, examples: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """What the axes of recorded values are, by the names of their variables."""
        return {
            variable: dimensions(variable, self.functions[name], len(leaf.shape))
            for name, example in examples.items()
            for variable, leaf in recorded_variables(name, example).items()
        }

    def of(self, rows: np.ndarray) -> "Record":
        """What belongs to these members."""
        functions: dict[str, Any] = {
            name: members(function, rows) if is_per_member(function) else function
            for name, function in self.functions.items()
        }
        at = of_rows(self.at, rows) if np.ndim(self.at) == 2 else self.at
        return Record(functions, at, self.over, self.every)

    def places(self, problem: Problem) -> AbstractPlaces:
        """Where members are looked at."""
        if np.ndim(self.at):
            assert self.over is not None
            return OnGrid(self.at, self.over)
        rows = self.at
        if self.every is not None:
            rows = _rows_of_steps(self.every, int(problem.max_steps))
        return AlongPath(rows, self.every, self.over, problem)

    def observe(
        self, network: eqx.Module, task: AbstractTask, own: Sequence[Any]
    ) -> "_Observe":
        """The function of snapshots that the engine asks.

        Given the network and the task of one member, and the arrays in them that others
        have their own of.
        """
        shared = {k: _parted(f)[1] for k, f in self.functions.items()}
        return _Observe(shared, network, task, places_of(own, (network, task)))

    def own(self, rows: np.ndarray, arrays: tuple[Any, ...]) -> "_Own":
        """What of the functions is these members' own, beside `arrays`."""
        functions = {k: _parted(f)[0] for k, f in self.functions.items()}
        functions = jax.tree_util.tree_map(lambda leaf: of_rows(leaf, rows), functions)
        return _Own(functions, arrays)


class _Own(NamedTuple):
    """What of an observer is a member's own."""

    functions: dict[str, PyTree]
    arrays: tuple[Any, ...]


class _Observe(eqx.Module):
    """Calls the recorded functions with the network that a snapshot shows."""

    functions: Mapping[str, Any]  # without the arrays that differ from member to member
    network: eqx.Module
    task: AbstractTask
    places: Any = eqx.field(static=True)  # of members' own arrays in network and task

    def __call__(self, shown: Snapshot, own: _Own) -> dict[str, PyTree[Array]]:
        assert shown.direction is not None
        dtype = shown.direction.dtype
        weights = jnp.exp(shown.log_norm) * shown.direction
        of_one, task = put((self.network, self.task), self.places, own.arrays)
        network, given = unflattener(of_one)(weights), own.functions
        functions = {
            name: function if given[name] is None else eqx.combine(given[name], function)
            for name, function in self.functions.items()
        }

        def found(name, function):
            value = _called(f"record[{name!r}]", function, network, task)
            if jax.tree_util.all_leaves([value]):
                return jnp.asarray(value).astype(dtype)
            cast = lambda leaf: leaf.astype(dtype)
            return jax.tree_util.tree_map(cast, eqx.filter(value, eqx.is_array))

        return {name: found(name, function) for name, function in functions.items()}


def _parted(function: Callable) -> tuple[PyTree, PyTree]:
    """The arrays of a recorder that differ from member to member, and the rest."""
    if not is_per_member(function):
        return None, function
    return eqx.partition(function, eqx.is_array)


def is_per_member(function: Callable) -> TypeGuard[eqx.Module]:
    """Whether every array of a recorder has a leading axis of members."""
    return isinstance(function, eqx.Module) and bool(getattr(function, "per_member", False))


def _called(argument: str, function: Callable, network: Any, task: Any) -> Any:
    """What a recorded function gives; whatever it raises as an `InputError`."""
    try:
        return function(network, task)
    except Exception as error:
        raise InputError(
            argument,
            f"{type(error).__name__} when called: {error}",
            "a function of (network, task) that JAX can trace",
        ) from error


def check_functions(argument: str, functions: Any) -> dict[str, Callable]:
    """Functions by name, as far as can be seen without a network.

    Raises:
        InputError: if it does not fit.
    """
    if not isinstance(functions, Mapping):
        raise InputError(argument, shown(functions), "a dict of named functions")
    for name, function in functions.items():
        if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
            found = f"the name {shown(name)}"
            raise InputError(argument, found, "a new name without spaces")
        if not callable(function):
            expected = "a function of (network, task)"
            raise InputError(f"{argument}[{name!r}]", shown(function), expected)
    return dict(functions)


MOST_ROWS = 2**20
"""The most points of one member. Chosen: 8 MB for each recorded number."""


def check_at(argument: str, at: Any, beside: str, every: Any) -> Any:
    """How many points there are, or a grid; `None` if there are so many steps between.

    Raises:
        InputError: also unless there is one of the two.
    """
    if every is not None:
        check_whole(beside, every)
        if at is not None:
            raise InputError(argument, f"{shown(at)} beside {beside}", "one of the two")
        return None
    if is_whole(at):
        return check_whole(argument, at, least=2, most=MOST_ROWS)
    return check_grid(argument, at)


def check_grid(argument: str, at: Any) -> np.ndarray:
    """An increasing grid, (points,) or (num, points).

    Raises:
        InputError: if it does not fit.
    """
    # Logarithms are minus infinity where a path begins.
    known = lambda points: np.isfinite(points) | np.isneginf(points)
    expected = "a whole number of points, or an increasing grid"
    grid = check_numbers(argument, at, expected, known)
    if grid.ndim not in (1, 2) or not grid.size:
        expected = "a whole number of points, or a grid, (points,) or (num, points)"
        raise InputError(argument, f"shape {grid.shape}", expected)
    if not np.all(grid[..., 1:] > grid[..., :-1]):
        raise InputError(argument, "points out of order", "an increasing grid")
    return grid


def _rows_of_steps(every: int, max_steps: int) -> int:
    """The start, every so many of at most so many steps, and the end."""
    return max_steps // every + 2


def check_over(argument: str, over: Any) -> None:
    """The name of a quantity. Raises `InputError`."""
    if not isinstance(over, str):
        raise InputError(argument, shown(over), "the name of a quantity")


def _check_names(dims: Mapping[str, tuple[str, ...]]) -> None:
    """Whether variables and axes have names of their own."""
    axes = {axis for each in dims.values() for axis in each}
    if taken := sorted(axes & set(dims)):
        raise InputError("record", f"the name {taken[0]!r}", "one that no axis has")
    if taken := sorted(RESERVED & set(dims)):
        raise InputError("record", f"the name {taken[0]!r}", "a new name")


def _example(
    name: Any, function: Any, networks: AbstractNetworks, task: AbstractTask
) -> tuple[PyTree, PyTree]:
    """The shapes of what a function gives, and what it gives beside arrays."""
    argument = f"record[{name!r}]"
    of_one: Callable = function
    if is_per_member(function):
        found_num = num_members(function, argument)
        if found_num != networks.num:
            raise InputError(
                argument,
                f"a leading axis of {found_num}",
                "one for each member of an ensemble of a known size"
                if networks.num is None
                else f"one of {networks.num}, the members of the ensemble",
            )
        of_one = cast(Callable, member(function, 0))
    found = eqx.filter_eval_shape(
        lambda function, *given: _called(argument, function, *given),
        of_one,
        networks.one,
        task,
    )
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    if isinstance(found, (bool, int, float)):
        return jax.ShapeDtypeStruct((), networks.dtype), None
    arrays, rest = eqx.partition(found, is_shape)
    leaves = jax.tree_util.tree_leaves(arrays)
    real = lambda leaf: leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number)
    if not leaves or any(not real(leaf) or jnp.iscomplexobj(leaf) for leaf in leaves):
        expected = "one real array, or a pytree of such"
        raise InputError(argument, f"a function that returns {shown(found)}", expected)
    shape_of = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, networks.dtype)
    return jax.tree_util.tree_map(shape_of, arrays), None if is_shape(found) else rest
