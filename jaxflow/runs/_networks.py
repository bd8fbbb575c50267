"""Where a run's networks come from: held, drawn when needed, or iterated."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import on_device
from .._checks import check_flag
from ..errors import InputError
from ..networks import (
    draw_members,
    flatten,
    flatten_rows,
    Initializations,
    member,
    members,
    num_members,
    parameter_dtype,
)
from ..tasks import AbstractTask, check_task


class AbstractNetworks(eqx.Module):
    """Networks by row, however many there are. Row 0 is the member of number `start`."""

    one: eqx.AbstractVar[eqx.Module]
    """Any of them, without a leading axis."""
    start: eqx.AbstractVar[int]
    """The number of the first member, from which its random numbers are made."""
    is_single: eqx.AbstractVar[bool]
    """Whether the caller gave one network, so that results have no axis of members."""
    is_held: ClassVar[bool] = False
    """Whether all are in memory, at the caller's."""

    @property
    @abc.abstractmethod
    def num(self) -> int | None:
        """How many there are; `None` if only the end of an iterator will tell."""

    @abc.abstractmethod
    def has(self, row: int) -> bool:
        """Whether there is a network in this row; asked for in increasing order."""

    @abc.abstractmethod
    def stacked(self, rows: np.ndarray) -> eqx.Module:
        """The networks in these rows with a leading axis."""

    @abc.abstractmethod
    def between(self, first: int, last: int) -> "AbstractNetworks":
        """Those in rows `first` to `last - 1`, with the numbers that they have here."""

    @property
    def has_zero(self) -> bool:
        """Whether some member's weights are known to be all zero; drawn ones never are."""
        return False

    @property
    def dtype(self) -> Any:
        """Of the parameters."""
        return jnp.dtype(parameter_dtype(self._any))

    @property
    def _any(self) -> eqx.Module:
        """Networks of the right types, however many."""
        return self.one

    def describe(self) -> dict[str, Any]:
        """What a result says of them."""
        arrays = jax.tree_util.tree_leaves(eqx.filter(self.one, eqx.is_inexact_array))
        return {
            "network": type(self.one).__name__,
            "num_parameters": sum(array.size for array in arrays),
            "dtype": str(self.dtype),
        }


class StackedNetworks(AbstractNetworks):
    """An ensemble that the caller holds."""

    is_held: ClassVar[bool] = True
    ensemble: eqx.Module
    num_members: int = eqx.field(static=True)
    start: int = eqx.field(static=True, default=0)
    is_single: bool = eqx.field(static=True, default=False)

    @property
    def one(self) -> eqx.Module:  # pyright: ignore
        return member(self.ensemble, 0)

    @property
    def has_zero(self) -> bool:
        return bool(np.any(np.all(flatten_rows(self.ensemble) == 0, axis=1)))

    @property
    def _any(self) -> eqx.Module:
        return self.ensemble

    @property
    def num(self):
        return self.num_members

    def has(self, row):
        return row < self.num_members

    def stacked(self, rows):
        return members(self.ensemble, rows)

    def between(self, first, last):
        some = members(self.ensemble, np.arange(first, last))
        return StackedNetworks(  # pyright: ignore[reportCallIssue]
            some, last - first, self.start + first
        )


class DrawnNetworks(AbstractNetworks):
    """Members that are drawn when they are needed."""

    one: eqx.Module
    num_members: int = eqx.field(static=True)
    key_data: np.ndarray
    key_impl: str = eqx.field(static=True)
    start: int = eqx.field(static=True, default=0)
    is_single = False

    @property
    def num(self):
        return self.num_members

    def has(self, row):
        return row < self.num_members

    def stacked(self, rows):
        key = jax.random.wrap_key_data(jnp.asarray(self.key_data), impl=self.key_impl)
        return draw_members(self.one, key, self.start + np.asarray(rows, np.int64))

    def between(self, first, last):
        return dataclasses.replace(self, num_members=last - first, start=self.start + first)


class IteratedNetworks(AbstractNetworks):
    """Networks that an iterator gives one after another, each looked at by `check`.

    As an iterator can be gone through once, so can they: they neither pickle nor compare.
    """

    one: eqx.Module
    _queue: "_Queue" = eqx.field(static=True)
    start = 0
    is_single = False

    @property
    def num(self):
        return self._queue.total

    def has(self, row):
        return self._queue.has(row)

    @property
    def has_zero(self) -> bool:
        return not np.any(flatten(self.one))  # of the others nothing is known yet

    def stacked(self, rows):
        networks = self._queue.take(rows)
        return jax.tree_util.tree_map(
            lambda *leaves: (
                on_device(np.stack([np.asarray(leaf) for leaf in leaves]))
                if eqx.is_array(leaves[0])
                else leaves[0]
            ),
            *networks,
        )

    def between(self, first, last):
        raise InputError("members", "a range of an iterator", "an ensemble, or all of it")

    def known_by(self) -> dict[str, Any]:
        """All that can be said before the iterator has been gone through."""
        return {"one": self.one}


class _Queue:
    """What has been pulled from an iterator and not been passed yet."""

    def __init__(self, networks: Iterator[Any], first: eqx.Module, check: Callable):
        self._networks = networks
        self._check = check
        self._held: dict[int, eqx.Module] = {0: first}
        self._pulled = 1
        self.total: int | None = None

    def has(self, row: int) -> bool:
        while self._pulled <= row and self.total is None:
            try:
                network = next(self._networks)
            except StopIteration:
                self.total = self._pulled
                break
            self._held[self._pulled] = self._check(self._pulled, network)
            self._pulled += 1
        return row < self._pulled

    def take(self, rows: np.ndarray) -> list[eqx.Module]:
        if not self.has(int(rows[-1])):
            raise IndexError(rows[-1])
        if any(int(row) not in self._held for row in rows):
            found = "an iterator that another run has gone through"
            raise InputError("networks", found, "a new one for every run")
        networks = [self._held[int(row)] for row in rows]
        # Rows only increase: what lies behind is not asked for again.
        for row in [i for i in self._held if i < rows[0]]:
            del self._held[row]
        return networks


def as_networks(given: Any, task: AbstractTask, ensemble: bool | None) -> AbstractNetworks:
    """Find out what the caller gave, and whether it fits the task."""
    check_task(task)
    ensemble = check_flag("ensemble", ensemble, optional=True)
    if isinstance(given, AbstractNetworks):
        return given
    if isinstance(given, Initializations):
        _check_one(given.network, task)
        return _as_drawn(given)
    if isinstance(given, eqx.Module):
        return _as_stacked(given, task, ensemble)
    if isinstance(given, Iterable) and not isinstance(given, (str, Mapping)):
        return _as_iterated(given, task)
    raise InputError(
        "networks",
        type(given).__name__,
        "an equinox.Module, a jaxflow.Initializations, or an iterator of modules",
    )


def check_directions(networks: AbstractNetworks, why: str) -> None:
    """Refuse members whose weights are all zero, where a direction is needed."""
    if networks.has_zero:
        found = "a member whose weights are all zero"
        raise InputError("networks", found, f"weights with a direction: {why}")


def _as_drawn(given: Initializations) -> DrawnNetworks:
    typed = jnp.issubdtype(given.key.dtype, jax.dtypes.prng_key)
    key = given.key if typed else jax.random.wrap_key_data(given.key)
    return DrawnNetworks(  # pyright: ignore[reportCallIssue]
        given.network,
        int(given.num),
        np.asarray(jax.random.key_data(key)),
        str(jax.random.key_impl(key)),
        int(given.start),
    )


def _as_iterated(given: Iterable, task: AbstractTask) -> IteratedNetworks:
    networks = iter(given)
    one = next(networks, None)
    if not isinstance(one, eqx.Module):
        held = "nothing" if one is None else type(one).__name__
        found = f"a {type(given).__name__} of {held}"
        raise InputError("networks", found, "an iterator of equinox.Modules")
    _check_one(one, task)
    shapes = eqx.filter_eval_shape(lambda: one)

    def check(row: int, network: Any) -> eqx.Module:
        argument = f"networks[{row}]"
        if not isinstance(network, eqx.Module):
            raise InputError(argument, type(network).__name__, "an equinox.Module")
        if not eqx.tree_equal(eqx.filter_eval_shape(lambda: network), shapes):
            raise InputError(argument, "another structure", "that of the first network")
        _check_finite_parameters(network)
        return network

    queue = _Queue(networks, one, check)
    return IteratedNetworks(one, queue)  # pyright: ignore[reportCallIssue]


def _as_stacked(networks: eqx.Module, task: AbstractTask, ensemble: bool | None):
    """Find out whether this is one network or an ensemble."""
    task = task.astype(_check_dtype(networks))
    _check_finite_parameters(networks)
    excluded = "excluded by the argument ensemble"
    as_one = excluded if ensemble is True else task.misfit(networks)
    as_many = excluded if ensemble is False else _misfit_of_ensemble(networks, task)
    if as_one is None and as_many is None:
        raise InputError(
            "networks",
            "arrays that fit the task as one network and as an ensemble",
            "ensemble=True or ensemble=False beside them",
        )
    if as_one is not None and as_many is not None:
        reasons = f"as one network: {as_one}; as an ensemble: {as_many}"
        raise _misfit_error(reasons, task)
    is_single = as_one is None
    if is_single:
        # Through NumPy: JAX would compile a program for every shape.
        networks = jax.tree_util.tree_map(
            lambda leaf: on_device(np.asarray(leaf)[None]) if eqx.is_array(leaf) else leaf,
            networks,
        )
    num = num_members(networks)
    return StackedNetworks(  # pyright: ignore[reportCallIssue]
        networks, num, is_single=is_single
    )


def _check_one(network: eqx.Module, task: AbstractTask) -> None:
    """Whether one network fits the task."""
    dtype = _check_dtype(network)
    _check_finite_parameters(network)
    if (reason := task.astype(dtype).misfit(network)) is not None:
        raise _misfit_error(f"one network: {reason}", task)


def _check_dtype(networks: eqx.Module) -> Any:
    dtype = jnp.dtype(parameter_dtype(networks, "networks"))
    if dtype.itemsize < 4:
        raise InputError("networks", f"parameters of {dtype}", "float32 or float64")
    return dtype


def _check_finite_parameters(networks: eqx.Module) -> None:
    arrays = jax.tree_util.tree_leaves_with_path(eqx.filter(networks, eqx.is_array))
    for path, array in arrays:
        where = jax.tree_util.keystr(path)
        if array.size == 0:
            expected = "at least one member and one parameter"
            raise InputError("networks", f"an empty array at {where}", expected)
        bad = int(np.sum(~np.isfinite(np.asarray(array))))
        if bad:
            found = f"{bad} parameters that are NaN or infinite at {where}"
            raise InputError("networks", found, "finite weights")


def _misfit_error(reasons: str, task: AbstractTask) -> InputError:
    return InputError(
        "networks",
        f"a module that does not fit the task ({reasons})",
        task.asks_for,
    )


def _misfit_of_ensemble(networks: eqx.Module, task: AbstractTask) -> str | None:
    try:
        num_members(networks)
    except InputError as error:
        return error.found
    return task.misfit(member(networks, 0))
