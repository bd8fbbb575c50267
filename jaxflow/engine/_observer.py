"""Who looks at members on their way: what the pool asks, and lanes served in turn."""

import abc
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from ._lane import Attempt, Lane, Problem

Recordings = TypeVar("Recordings", bound=PyTree)


class AbstractObserver(eqx.Module):
    """Turns states along a member's path into a few numbers on the spot.

    A member's recording is its own, with shapes that do not change, and is kept beside its
    lane: both are moved and saved together.
    """

    observe: eqx.AbstractVar[Callable[[Any, PyTree], PyTree[Array]]]
    """A function of a snapshot and of what is a member's own."""

    @abc.abstractmethod
    def start(self, problem: Problem, lanes: Lane, recordings: Any) -> Any:
        """The recordings of lanes before their first step."""

    @abc.abstractmethod
    def follow(
        self,
        problem: Problem,
        before: Lane,
        after: Lane,
        attempts: Attempt,
        recordings: Any,
    ) -> Any:
        """The recordings after an attempt in every lane."""


def in_turn(
    recordings: Recordings,
    pending: Callable[[Recordings], Bool[Array, " lanes"]],
    one_lane: Callable[[Recordings, Array], Recordings],
    all_lanes: Callable[[Recordings, Array], Recordings],
) -> Recordings:
    """Serve lanes until none is pending.

    Arguments:
        one_lane: `one_lane(recordings, lane)` serves one that is pending.
        all_lanes: `all_lanes(recordings, pending)` serves all of them. On a CPU it is one
            lane after the other: no lane computes what only another needs. An accelerator
            wants them all together.
    """

    def serve(recordings):
        return jax.lax.platform_dependent(
            recordings,
            cpu=lambda recordings: one_lane(recordings, jnp.argmax(pending(recordings))),
            default=lambda recordings: all_lanes(recordings, pending(recordings)),
        )

    return jax.lax.while_loop(lambda r: jnp.any(pending(r)), serve, recordings)


def row(tree: PyTree, index: Any) -> PyTree:
    """One lane of a tree of lanes."""
    return jax.tree_util.tree_map(lambda leaf: leaf[index], tree)


def written(rows: PyTree, lanes: Any, places: Any, observed: PyTree) -> PyTree:
    """Arrays (lanes, places, …) with what was observed; a place past the end is nowhere."""
    return jax.tree_util.tree_map(
        lambda array, value: array.at[lanes, places].set(value, mode="drop"), rows, observed
    )
