"""Values along a member's path at the points of a grid, by the solver's dense output.

No weights are stored: an observer turns each state into a few numbers on the spot.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from .._arrays import on_device
from ._crossing import first_crossing
from ._lane import Attempt, Lane, Problem

_ROUNDING = 64
"""Units in the last place by which a member may miss its own end. Chosen."""


class Observer(eqx.Module):
    """What is recorded, and over which quantity of a snapshot the grid runs.

    **Arguments:** `observe`, a function of a snapshot and of what is a member's own.
    """

    observe: Callable[[Any, PyTree], PyTree[Array]]
    over: str = eqx.field(static=True)


class Recording(eqx.Module):
    """A member's grid, how far it has come on it, and the values so far.

    Of one member, or of many with leading axes `lanes`.
    """

    grid: Float[Array, "*lanes points"]  # increasing
    index: Int[Array, "*lanes"]  # of the next point
    values: PyTree[Array]  # (points, …), NaN where the member never came
    own: PyTree[Array]  # what of the observer is this member's own


def empty_recordings(grids: np.ndarray, own: PyTree, example: PyTree) -> Recording:
    """Recordings before the start, for observations shaped like `example`.

    **Arguments:**

    - `grids`: (members, points).
    - `own`: what of the observer is each member's own, with a leading axis.
    - `example`: what one member records at one point.
    """
    # By NumPy: JAX would compile a program for every shape.
    values = jax.tree_util.tree_map(
        lambda leaf: np.full((*grids.shape, *leaf.shape), np.nan, leaf.dtype), example
    )
    parts = (grids, np.zeros(len(grids), np.int32), values, own)
    return Recording(*jax.tree_util.tree_map(on_device, parts))


def record_start(
    problem: Problem, observer: Observer, lanes: Lane, recordings: Recording
) -> Recording:
    """Fill the points of the grid that lie at or before the initial state."""

    def pieces(lane):
        return _Piece(lane.clock, lane.clock, jnp.asarray(True), lane.args, lane.state)

    return _fill(
        problem, observer, recordings, jax.vmap(pieces)(lanes), lambda state, _: state
    )


def record_attempt(
    problem: Problem,
    observer: Observer,
    lanes: Lane,
    attempts: Attempt,
    recordings: Recording,
) -> Recording:
    """Fill the points of the grid that the step just tried has passed, if accepted."""

    def pieces(lane, attempt):
        usable = attempt.accepted
        return _Piece(attempt.start, attempt.arrival, usable, lane.args, attempt)

    def inside(attempt, clock):
        return attempt.interpolate(problem.stepper, clock)

    return _fill(problem, observer, recordings, jax.vmap(pieces)(lanes, attempts), inside)


class _Piece(eqx.Module):
    """A stretch of a member's path on which the state can be had at every clock."""

    start: Real[Array, ""]
    end: Real[Array, ""]
    usable: Bool[Array, ""]
    args: PyTree
    source: PyTree  # what the state is made from


def _fill(problem, observer, recordings, pieces, state_at) -> Recording:
    """Read the points of the grid that lie on these pieces, until none is left."""
    length = recordings.grid.shape[-1]

    def snapshot(piece, clock):
        state = state_at(piece.source, clock)
        # No recorder reads the velocity; anything of its shape will do.
        return problem.flow.snapshot(clock, state, state, piece.args)

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

    def one_lane(recordings):
        lane = jnp.argmax(pending(recordings))
        observed = observe(*_row((recordings, pieces), lane))
        places = recordings.index[lane]
        index = recordings.index.at[lane].add(1)
        return _written(recordings, lane, places, observed, index)

    def all_lanes(recordings):
        lanes = jnp.arange(recordings.index.shape[0])
        waiting = pending(recordings)
        # A place past the end of the grid stores nothing.
        places = jnp.where(waiting, recordings.index, length)
        observed = jax.vmap(observe)(recordings, pieces)
        index = recordings.index + waiting.astype(jnp.int32)
        return _written(recordings, lanes, places, observed, index)

    def read_next(recordings):
        # On a CPU one lane after the other: no lane computes what only another needs.
        # An accelerator wants them all together.
        return jax.lax.platform_dependent(recordings, cpu=one_lane, default=all_lanes)

    return jax.lax.while_loop(
        lambda recordings: jnp.any(pending(recordings)), read_next, recordings
    )


def _row(tree, row):
    return jax.tree_util.tree_map(lambda leaf: leaf[row], tree)


def _written(recordings, lanes, places, observed, index) -> Recording:
    values = jax.tree_util.tree_map(
        lambda array, value: array.at[lanes, places].set(value, mode="drop"),
        recordings.values,
        observed,
    )
    return Recording(recordings.grid, index, values, recordings.own)
