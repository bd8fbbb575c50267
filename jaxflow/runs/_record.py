"""What is recorded along the way, and where."""

from collections.abc import Callable, Mapping
from typing import Any, cast, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks import check_numbers, shown
from ..engine import grid_recordings, GridObserver, GridRecording
from ..errors import InputError
from ..flows import Snapshot
from ..networks import member, members, num_members, unflattener
from ..observables import dimensions
from ..results import RESERVED
from ..tasks import AbstractTask
from ._networks import AbstractNetworks
from ._numbers import of_rows


class Record(eqx.Module):
    """Functions of (network, task) to be recorded on a grid along each member's path.

    **Arguments:**

    - `functions`: by name, each giving one real array.
    - `at`: an increasing grid, (points,), or (num, points) with one for each member.
    - `over`: the quantity that the grid runs over: `"rescaled_time"`, `"time"`,
      `"log_time"`, `"log_norm"`, or another that the flow shows (`jaxflow.quantities`).
      What the equation has for a clock if not given.

    **Raises:** `InputError` for what cannot be recorded, at once or where it is used.

    >>> import jax, jaxflow as jf
    >>> network = jf.DiagonalLinear(2, 2, key=jax.random.key(0))
    >>> task = jf.Task(jax.numpy.eye(2), jax.numpy.ones(2))
    >>> record = jf.Record({"norm": jf.norm}, [0.0, 0.5], over="time")
    >>> solution = jf.gradient_flow(network, task, stop=jf.Time(0.5), record=record)
    >>> solution.records.values["norm"].shape
    (2,)
    """

    functions: Mapping[str, Callable]
    at: Any
    over: str | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_functions("functions", self.functions)
        check_grid("at", self.at)
        if self.over is not None:
            check_over("over", self.over)

    def settled(
        self, default_over: str, networks: AbstractNetworks, task: AbstractTask
    ) -> "Record":
        """Checked, with its grid as an array."""
        over = default_over if self.over is None else self.over
        at = check_grid("record_at", self.at)
        if at.ndim == 2 and len(at) != networks.num:
            own = "" if networks.num is None else f" or ({networks.num}, points)"
            raise InputError("record_at", f"shape {at.shape}", f"(points,){own}")
        settled = Record(dict(self.functions), at, over)
        if over in settled.functions:
            found = f"the name {over!r}, over which the grid runs"
            raise InputError("record", found, "another name")
        _check_names(settled.functions, settled.examples(networks, task))
        return settled

    def examples(
        self, networks: AbstractNetworks, task: AbstractTask
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """What one member records at one point."""
        return {
            name: _example(name, function, networks, task)
            for name, function in self.functions.items()
        }

    def dims(self, examples: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """By name, what the axes of a recorded value are."""
        return {
            name: dimensions(name, function, len(examples[name].shape))
            for name, function in self.functions.items()
        }

    def grids(self, rows: np.ndarray) -> np.ndarray:
        """The grid of these members: (points,), or (members, points) if each has one."""
        return self.at if self.at.ndim == 1 else of_rows(self.at, rows)

    def of(self, rows: np.ndarray) -> "Record":
        """What belongs to these members."""
        functions: dict[str, Any] = {
            name: members(function, rows) if is_per_member(function) else function
            for name, function in self.functions.items()
        }
        return Record(functions, self.grids(rows), self.over)

    def observer(self, network: eqx.Module, task: AbstractTask) -> GridObserver:
        """What the engine asks at every point."""
        assert self.over is not None
        shared = {k: _parted(f)[1] for k, f in self.functions.items()}
        return GridObserver(_Observe(shared, network, task), self.over)

    def recordings(
        self, rows: np.ndarray, examples: Mapping[str, Any], dtype: Any
    ) -> GridRecording:
        """Recordings of these members before their start."""
        own = {k: _parted(f)[0] for k, f in self.functions.items()}
        own = jax.tree_util.tree_map(lambda leaf: of_rows(leaf, rows), own)
        grids = self.grids(rows).astype(dtype)
        grids = np.broadcast_to(grids, (len(rows), grids.shape[-1]))
        return grid_recordings(grids, own, dict(examples))


class _Observe(eqx.Module):
    """Calls the recorded functions with the network that a snapshot shows."""

    functions: Mapping[str, Any]  # without the arrays that differ from member to member
    network: eqx.Module
    task: AbstractTask

    def __call__(self, shown: Snapshot, own: PyTree) -> dict[str, Array]:
        assert shown.direction is not None
        dtype = shown.direction.dtype
        weights = jnp.exp(shown.log_norm) * shown.direction
        network = unflattener(self.network)(weights)
        functions = {
            name: function if own[name] is None else eqx.combine(own[name], function)
            for name, function in self.functions.items()
        }
        return {
            name: jnp.asarray(
                _called(f"record[{name!r}]", function, network, self.task)
            ).astype(dtype)
            for name, function in functions.items()
        }


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

    **Raises:** `InputError`.
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


def check_grid(argument: str, at: Any) -> np.ndarray:
    """An increasing grid, (points,) or (num, points).

    **Raises:** `InputError`.
    """
    # Logarithms are minus infinity where a path begins.
    known = lambda points: np.isfinite(points) | np.isneginf(points)
    grid = check_numbers(argument, at, "an increasing grid", known)
    if grid.ndim not in (1, 2) or not grid.size:
        raise InputError(argument, f"shape {grid.shape}", "(points,) or (num, points)")
    if not np.all(grid[..., 1:] > grid[..., :-1]):
        raise InputError(argument, "points out of order", "an increasing grid")
    return grid


def check_over(argument: str, over: Any) -> None:
    """The name of a quantity. **Raises:** `InputError`."""
    if not isinstance(over, str):
        raise InputError(argument, shown(over), "the name of a quantity")


def _check_names(functions: Mapping[str, Callable], examples: Mapping[str, Any]) -> None:
    axes = [
        axis
        for name, function in functions.items()
        for axis in dimensions(name, function, len(examples[name].shape))
    ]
    if taken := sorted(set(axes) & set(functions)):
        raise InputError("record", f"the name {taken[0]!r}", "one that no axis has")


def _example(name: Any, function: Any, networks: AbstractNetworks, task: AbstractTask):
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
    numeric = isinstance(found, jax.ShapeDtypeStruct) and (
        found.dtype == bool or jnp.issubdtype(found.dtype, jnp.number)
    )
    is_number = isinstance(found, (bool, int, float))
    if not (numeric or is_number) or jnp.iscomplexobj(found):
        raise InputError(argument, f"a function that returns {found}", "one real array")
    return jax.ShapeDtypeStruct(jnp.shape(found), networks.dtype)
