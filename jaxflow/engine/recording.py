"""Values along a member's path at the points of a grid, by the solver's dense output.

No weights are stored: an observer turns each state into a few numbers on the spot.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from .crossing import first_crossing
from .lane import Attempt, Lane, Problem


class Recorder(eqx.Module):
    """What is recorded, and over which quantity of a `Snapshot` the grid runs."""

    observer: Callable[[Any], PyTree[Array]]  # None in it where members differ
    over: str = eqx.field(static=True)


class Recording(eqx.Module):
    """One member's grid, how far it has come on it, and the values so far."""

    grid: Float[Array, " points"]  # increasing
    index: Int[Array, ""]
    values: PyTree[Array, "points ..."]  # NaN where the member never came
    own: PyTree[Array]  # the part of the observer that is this member's own


def empty_recording(recorder: Recorder, grid, own, example: PyTree) -> Recording:
    """A recording before the start, for observations shaped like `example`."""
    values = jax.tree_util.tree_map(
        lambda leaf: jnp.full((grid.shape[0], *leaf.shape), jnp.nan, leaf.dtype), example
    )
    return Recording(grid, jnp.zeros((), jnp.int32), values, own)


def record_start(
    problem: Problem, recorder: Recorder, lanes: Lane, recordings: Recording
) -> Recording:
    """Fill the points of the grid that lie at or before the initial state."""

    def pieces(lane):
        return _Piece(lane.clock, lane.clock, jnp.asarray(True), lane.args, lane.state)

    return _fill(
        problem, recorder, recordings, jax.vmap(pieces)(lanes), lambda state, _: state
    )


def record_attempt(
    problem: Problem,
    recorder: Recorder,
    lanes: Lane,
    attempts: Attempt,
    recordings: Recording,
) -> Recording:
    """Fill the points of the grid that the step just tried has passed, if accepted."""

    def pieces(lane, attempt):
        # Not `attempt.end`: a member may have landed inside the step.
        return _Piece(attempt.start, lane.clock, attempt.accepted, lane.args, attempt)

    def inside(attempt, clock):
        return attempt.interpolate(problem.solver, clock)

    return _fill(problem, recorder, recordings, jax.vmap(pieces)(lanes, attempts), inside)


class _Piece(eqx.Module):
    """A stretch of a member's path on which the state can be had at every clock."""

    start: Real[Array, ""]
    end: Real[Array, ""]
    usable: Bool[Array, ""]
    args: PyTree
    source: PyTree  # what the state is made from


def _fill(problem, recorder, recordings, pieces, state_at) -> Recording:
    """One point of the grid for each member that has one, until nobody has.

    A loop over lanes together and not `vmap` of a loop: that would copy every member's
    values in each iteration.
    """
    length = recordings.grid.shape[-1]

    def snapshot(piece, clock):
        state = state_at(piece.source, clock)
        # No recorder reads the velocity; anything of its shape will do.
        return problem.flow.snapshot(clock, state, state, piece.args)

    def coordinate(piece, clock):
        return getattr(snapshot(piece, clock), recorder.over)

    last = jax.vmap(lambda piece: coordinate(piece, piece.end))(pieces)
    # A member that stops at a point of the grid has passed it, whatever rounding says.
    last = last + 8 * jnp.finfo(last.dtype).eps * jnp.abs(last)

    def target(recording):
        return recording.grid[jnp.minimum(recording.index, length - 1)]

    def is_pending(recording, piece, last):
        return piece.usable & (recording.index < length) & (target(recording) <= last)

    def write(recording, piece, pending):
        def gap(clock):
            return coordinate(piece, clock) - target(recording)

        ahead = pending & (gap(piece.start) < 0)
        crossing = first_crossing(gap, piece.start, piece.end, ahead)
        clock = jnp.where(ahead, crossing, piece.start)
        observer = eqx.combine(recording.own, recorder.observer)
        observed = observer(snapshot(piece, clock))
        place = jnp.where(pending, recording.index, length)
        values = jax.tree_util.tree_map(
            lambda array, value: array.at[place].set(value, mode="drop"),
            recording.values,
            observed,
        )
        index = recording.index + pending.astype(jnp.int32)
        return Recording(recording.grid, index, values, recording.own)

    def pending(recordings):
        return jax.vmap(is_pending)(recordings, pieces, last)

    return jax.lax.while_loop(
        lambda recordings: jnp.any(pending(recordings)),
        lambda recordings: jax.vmap(write)(recordings, pieces, pending(recordings)),
        recordings,
    )
