"""Where a run's networks come from: held, drawn when needed, or iterated."""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import by_words, on_device, words_of
from .._trained import parameters_of
from ..errors import InputError
from ..networks import (
    AbstractDistribution,
    as_jax,
    draw_members,
    flatten,
    flatten_rows,
    member,
    members,
    parameter_dtype,
    SPHERE,
    unflatten_rows,
)


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
    pass_once: ClassVar[bool] = False
    """Whether a network that has been given is gone."""

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

    def own_of(self, one: eqx.Module) -> list[Any]:
        """The arrays of one network, beside its weights, that are not those of all."""
        return []

    def own(self, rows: np.ndarray) -> tuple[Any, ...]:
        """The same arrays of the networks in these rows, with a leading axis.

        Random keys are given as the integers that they are made of.
        """
        return ()

    def at(self, rows: np.ndarray, vectors: np.ndarray) -> eqx.Module:
        """The networks in these rows with other weights, stacked, in NumPy."""
        return unflatten_rows(self.one, vectors)

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
        arrays = jax.tree_util.tree_leaves(parameters_of(self.one))
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
    own_places: tuple[int, ...] = eqx.field(static=True, default=())
    """Of leaves beside the weights that differ from member to member."""

    def known_by(self) -> dict[str, Any]:
        names = ("ensemble", "num_members", "start", "is_single")
        return {name: getattr(self, name) for name in names}

    def own_of(self, one):
        leaves = jax.tree_util.tree_leaves(one)
        return [leaves[place] for place in self.own_places]

    def own(self, rows):
        own = self.own_of(self.ensemble)
        return tuple(on_device(words_of(leaf)[rows]) for leaf in own)

    def at(self, rows, vectors):
        networks = unflatten_rows(self.one, vectors)
        leaves, structure = jax.tree_util.tree_flatten(networks)
        for place, leaf in zip(self.own_places, self.own_of(self.ensemble)):
            leaves[place] = by_words(lambda words: words[rows], leaf)
        return structure.unflatten(leaves)

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
        return dataclasses.replace(
            self, ensemble=some, num_members=last - first, start=self.start + first,
            is_single=False,
        )  # fmt: skip


class DrawnNetworks(AbstractNetworks):
    """Members that are drawn when they are needed."""

    one: eqx.Module
    num_members: int = eqx.field(static=True)
    key_data: np.ndarray
    key_impl: str = eqx.field(static=True)
    start: int = eqx.field(static=True, default=0)
    distribution: AbstractDistribution = SPHERE
    is_single = False

    @property
    def num(self):
        return self.num_members

    def has(self, row):
        return row < self.num_members

    def stacked(self, rows):
        key = jax.random.wrap_key_data(jnp.asarray(self.key_data), impl=self.key_impl)
        numbers = self.start + np.asarray(rows, np.int64)
        return draw_members(self.one, key, numbers, self.distribution)

    def between(self, first, last):
        return dataclasses.replace(self, num_members=last - first, start=self.start + first)


class RepeatedNetworks(AbstractNetworks):
    """The same networks several times over: members that differ in δ or in thresholds.

    Row `i` is the network in row `i % num` of those that are repeated.
    """

    inner: AbstractNetworks
    times: int = eqx.field(static=True)
    first: int = eqx.field(static=True, default=0)
    last: int | None = eqx.field(static=True, default=None)
    is_single = False

    @property
    def one(self) -> eqx.Module:  # pyright: ignore
        return self.inner.one

    @property
    def start(self) -> int:  # pyright: ignore
        return self.first

    @property
    def num(self) -> int:
        return self._end - self.first

    @property
    def _end(self) -> int:
        assert self.inner.num is not None
        return self.times * self.inner.num if self.last is None else self.last

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        assert self.inner.num is not None
        return (self.first + np.asarray(rows, np.int64)) % self.inner.num

    def has(self, row):
        return row < self.num

    def stacked(self, rows):
        return self.inner.stacked(self._rows(rows))

    def own_of(self, one):
        return self.inner.own_of(one)

    def own(self, rows):
        return self.inner.own(self._rows(rows))

    def at(self, rows, vectors):
        return self.inner.at(self._rows(rows), vectors)

    @property
    def has_zero(self) -> bool:
        return self.inner.has_zero

    @property
    def _any(self) -> eqx.Module:
        return self.inner._any

    def between(self, first, last):
        start = self.first
        return dataclasses.replace(self, first=start + first, last=start + last)


class IteratedNetworks(AbstractNetworks):
    """Networks that an iterator gives one after another, each looked at by `check`.

    As an iterator can be gone through once, so can they: they neither pickle nor compare.
    """

    pass_once: ClassVar[bool] = True
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
        stack = lambda *leaves: by_words(
            lambda _: np.stack([words_of(leaf) for leaf in leaves]), leaves[0]
        )
        return as_jax(
            jax.tree_util.tree_map(
                lambda *leaves: stack(*leaves) if eqx.is_array(leaves[0]) else leaves[0],
                *networks,
            )
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


def check_alike(networks: AbstractNetworks) -> None:
    """Refuse members with frozen arrays of their own, where members are compared."""
    if networks.own_of(networks.one):
        found = "arrays that are not trained and differ from member to member"
        raise InputError("networks", found, "one network's for all: members are compared")


def check_directions(networks: AbstractNetworks, why: str) -> None:
    """Refuse members whose weights are all zero, where a direction is needed."""
    if networks.has_zero:
        found = "a member whose weights are all zero"
        raise InputError("networks", found, f"weights with a direction: {why}")


def queued(networks: Iterator[Any], one: eqx.Module, check: Callable) -> IteratedNetworks:
    """The first network and those that an iterator still gives, each looked at."""
    return IteratedNetworks(one, _Queue(networks, one, check))  # pyright: ignore
