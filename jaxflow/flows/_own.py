"""Members with arrays of their own, beside their weights: frozen features, masks, data.

They are part of a member's `args`. A flow is made for one member, and `OwnFlow` puts the
arrays of any other in the places where the flow keeps those of that one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import diffrax
import equinox as eqx
import jax
from jaxtyping import Array, Bool, PyTree, Shaped

from .._arrays import is_key
from ._abstract import AbstractNetworkFlow, MemberStart

Tree = TypeVar("Tree")
Places = tuple[tuple[int, ...], ...]
Arrays = tuple[Shaped[Array, "..."], ...]


class OwnArgs(NamedTuple):
    """The `args` of a flow of one member, and the member's own arrays."""

    inner: Any
    arrays: Arrays  # random keys as the integers that they are made of


class OwnFlow(AbstractNetworkFlow):
    """A flow of which some arrays differ from member to member."""

    flow: AbstractNetworkFlow
    places: Places = eqx.field(static=True)  # among the leaves of the flow

    def of(self, args: OwnArgs) -> AbstractNetworkFlow:
        """The flow of one member."""
        return put(self.flow, self.places, args.arrays)

    @property
    def network(self) -> eqx.Module:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.flow.network

    @property
    def repeatable(self) -> bool:  # pyright: ignore
        return self.flow.repeatable

    @property
    def shows(self) -> tuple[str, ...]:  # pyright: ignore
        return self.flow.shows

    @property
    def weights(self):  # pyright: ignore
        return self.flow.weights

    @property
    def drives(self):  # pyright: ignore
        return self.flow.drives

    @property
    def view_error(self):  # pyright: ignore
        return self.flow.view_error

    @property
    def error_norm(self):  # pyright: ignore
        return self.flow.error_norm

    @property
    def sides(self):
        sides = self.flow.sides
        if sides is None:
            return None
        leaves = jax.tree_util.tree_leaves(self.flow)
        held = [leaves[where[0]] for where in self.places]
        return _OwnSides(sides, places_of(held, sides))  # pyright: ignore

    def hint(self, quantity):
        return self.flow.hint(quantity)

    @property
    def example_arrays(self) -> tuple[Any, ...]:
        leaves = jax.tree_util.tree_leaves(self.flow)
        held = (leaves[where[0]] for where in self.places)
        return tuple(jax.random.key_data(a) if is_key(a) else a for a in held)

    def args_of(self, start: MemberStart) -> OwnArgs:
        return OwnArgs(self.flow.args_of(start), start.arrays)

    def enter(self, network, args: OwnArgs) -> Any:
        return self.of(args).enter(network, args.inner)

    def vector_field(self, clock, state, args: OwnArgs) -> Any:
        return self.of(args).vector_field(clock, state, args.inner)

    def snapshot(self, clock, state, velocity, args: OwnArgs):
        return self.of(args).snapshot(clock, state, velocity, args.inner)

    def clock_at(self, quantity, value, args: OwnArgs):
        return self.of(args).clock_at(quantity, value, args.inner)

    def terms(self, args: OwnArgs) -> diffrax.AbstractTerm:
        return jax.tree_util.tree_map(
            lambda node: _OfInner(node) if callable(node) else node,  # pyright: ignore
            self.of(args).terms(args.inner),
            is_leaf=callable,
        )

    def at_end(self, shown, at_rest):
        return self.flow.at_end(shown, at_rest)


class _OwnSides(eqx.Module):
    """The sides of kinks, of a member with arrays of its own."""

    sides: Callable[[Any, Any], Bool[Array, " pairs"]]
    places: Places = eqx.field(static=True)

    def __call__(self, state: Any, args: OwnArgs) -> Bool[Array, " pairs"]:
        return put(self.sides, self.places, args.arrays)(state, args.inner)


class _OfInner(eqx.Module):
    """A function of (clock, state, args) in a term, given the `args` of its own flow."""

    function: Callable[[Any, Any, Any], Any]

    def __call__(self, clock: Any, state: Any, args: OwnArgs) -> Any:
        return self.function(clock, state, args.inner)


def places_of(arrays: Sequence[Any], tree: PyTree) -> Places:
    """Where in a pytree each of these arrays is kept: the places of its leaves."""
    leaves = jax.tree_util.tree_leaves(tree)
    return tuple(
        tuple(place for place, leaf in enumerate(leaves) if leaf is array)
        for array in arrays
    )


def put(tree: Tree, places: Places, arrays: Arrays) -> Tree:
    """The pytree with these arrays in these places."""
    leaves, structure = jax.tree_util.tree_flatten(tree)
    for array, where in zip(arrays, places):
        for place in where:
            old = leaves[place]
            keys = lambda words, old=old: jax.random.wrap_key_data(
                words, impl=jax.random.key_impl(old)
            )
            leaves[place] = keys(array) if is_key(old) else array
    return structure.unflatten(leaves)
