"""Values along a member's path at the points of a grid, by the solver's dense output.

No weights are stored: an observer turns each state into a few numbers on the spot.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from .._arrays import on_device
from ._crossing import first_crossing
from ._lane import Attempt, Lane, Problem
from ._observer import AbstractObserver, in_turn, row, written

_ROUNDING = 64
"""Units in the last place by which a member may miss its own end. Chosen."""


class GridObserver(AbstractObserver):
    """What is recorded, and over which quantity of a snapshot the grid runs.

    Arguments:
        observe: a function of a snapshot and of what is a member's own.
    """

    observe: Callable[[Any, PyTree], PyTree[Array]]
    over: str = eqx.field(static=True)

    def start(self, problem: Problem, lanes: Lane, recordings: Any) -> Any:
        """Fill the points of the grid that lie at or before the initial state."""

        def pieces(lane):
            usable = jnp.asarray(True)
            return _Piece(lane.past, lane.clock, lane.clock, usable, lane.args, lane.state)

        return _fill(
            problem, self, recordings, jax.vmap(pieces)(lanes), lambda state, _: state
        )

    def follow(
        self,
        problem: Problem,
        before: Lane,
        after: Lane,
        attempts: Attempt,
        recordings: Any,
    ) -> Any:
        """Fill the points of the grid that the step just tried has passed, if accepted."""

        def piece(lane, attempt):
            usable = attempt.accepted
            return _Piece(
                lane.past, attempt.start, attempt.arrival, usable, lane.args, attempt
            )

        def inside(attempt, clock):
            return attempt.interpolate(problem.stepper, clock)

        pieces = jax.vmap(piece)(before, attempts)
        return _fill(problem, self, recordings, pieces, inside)


class GridRecording(eqx.Module):
    """A member's grid, how far it has come on it, and the values so far.

    Of one member, or of many with leading axes `lanes`.
    """

    grid: Float[Array, "*lanes points"]  # increasing
    index: Int[Array, "*lanes"]  # of the next point
    values: PyTree[Array]  # (points, …), zero where the member has not come yet
    own: PyTree[Array]  # what of the observer is this member's own
    brought: ClassVar[tuple[str, ...]] = ("grid", "own")
    """What does not change along the way."""

    def recorded(self, rows: np.ndarray) -> PyTree:
        """The values of these members, in NumPy: NaN where a member never came.

        On the device they are not NaN, for which JAX can be told to look.
        """
        index = np.asarray(self.index)[rows]

        def masked(leaf):
            values = np.array(np.asarray(leaf)[rows])
            values[np.arange(values.shape[1]) >= index[:, None]] = np.nan
            return values

        return jax.tree_util.tree_map(masked, self.values)


def grid_recordings(grids: np.ndarray, own: PyTree, example: PyTree) -> GridRecording:
    """Recordings before the start, for observations shaped like `example`.

    Arguments:
        grids: (members, points).
        own: what of the observer is each member's own, with a leading axis.
        example: what one member records at one point.
    """
    # By NumPy: JAX would compile a program for every shape.
    values = jax.tree_util.tree_map(
        lambda leaf: np.zeros((*grids.shape, *leaf.shape), leaf.dtype), example
    )
    parts = (grids, np.zeros(len(grids), np.int32), values, own)
    return GridRecording(*jax.tree_util.tree_map(on_device, parts))


class _Piece(eqx.Module):
    """A stretch of a member's path on which the state can be had at every clock."""

    past: Real[Array, ""]  # on the flow's clock before `start` was counted from
    start: Real[Array, ""]
    end: Real[Array, ""]
    usable: Bool[Array, ""]
    args: PyTree
    source: PyTree  # what the state is made from


def _fill(problem, observer, recordings, pieces, state_at) -> GridRecording:
    """Read the points of the grid that lie on these pieces, until none is left."""
    length = recordings.grid.shape[-1]

    def snapshot(piece, clock):
        state = state_at(piece.source, clock)
        # No recorder reads the velocity; anything of its shape will do.
        return problem.flow.snapshot(piece.past + clock, state, state, piece.args)

    def coordinate(piece, clock):
        return snapshot(piece, clock)[observer.over]

    last = jax.vmap(lambda piece: coordinate(piece, piece.end))(pieces)
    # A member that stops at a point of the grid has passed it, even if rounding puts its
    # end just before the point.
    last = last + _ROUNDING * jnp.finfo(last.dtype).eps * jnp.abs(last)

    def target(recording):
        return recording.grid[jnp.minimum(recording.index, length - 1)]

    def pending(recordings):
        def one(recording, piece, last):
            ahead = (recording.index < length) & (target(recording) <= last)
            return piece.usable & ahead

        return jax.vmap(one)(recordings, pieces, last)

    def observe(recording, piece):
        def gap(clock):
            return coordinate(piece, clock) - target(recording)

        inside = (gap(piece.start) < 0) & (piece.start < piece.end)
        crossing = first_crossing(gap, piece.start, piece.end, inside)
        clock = jnp.where(inside, crossing, piece.start)
        return observer.observe(snapshot(piece, clock), recording.own)

    def one_lane(recordings, lane):
        observed = observe(*row((recordings, pieces), lane))
        places = recordings.index[lane]
        values = written(recordings.values, lane, places, observed)
        index = recordings.index.at[lane].add(1)
        return GridRecording(recordings.grid, index, values, recordings.own)

    def all_lanes(recordings, waiting):
        places = jnp.where(waiting, recordings.index, length)
        observed = jax.vmap(observe)(recordings, pieces)
        values = written(recordings.values, jnp.arange(len(waiting)), places, observed)
        index = recordings.index + waiting.astype(jnp.int32)
        return GridRecording(recordings.grid, index, values, recordings.own)

    return in_turn(recordings, pending, one_lane, all_lanes)
