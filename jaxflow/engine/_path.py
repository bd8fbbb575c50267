"""Points along each member's own path, so many however long it is.

The row `k` of a recording belongs to the place where a measure of progress has come to
`k` strides. When the rows are full, every second one is dropped and the stride doubles: at
the end there are between a half and all of them, spread as the measure says, and the first
and the last state of the path are among them. Nobody has to know beforehand how far a
member will go, and for every row no more is read than
`1 + log₂` of the number of steps.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from .._arrays import on_device, select
from ..flows import Snapshot
from ._lane import Attempt, Lane, Problem
from ._observer import AbstractObserver, in_turn, row, written
from ._progress_measures import AbstractMeasure

_MOST_IN_A_STEP = 8
"""The most points that are read inside one step. Chosen: curves look smooth, and paths of
eight times fewer steps than rows fill their rows."""


class PathRows(NamedTuple):
    """What was recorded, and where that was; rows from `count` on hold nothing."""

    count: Int[Array, "*lanes"]
    coordinates: dict[str, Float[Array, "*lanes rows"]]
    values: PyTree[Array]  # (rows, …)


class PathRecording(eqx.Module):
    """How far a member has come, and its rows so far.

    Of one member, or of many with leading axes `lanes`.
    """

    values: PathRows
    stride: Float[Array, "*lanes"]  # between rows; zero before the first step says what
    progress: Float[Array, "*lanes"]
    memory: PyTree  # of the measure
    told: Bool[Array, "*lanes"]  # whether the last row is of the state as it is now
    own: PyTree[Array]  # what of the observer is this member's own
    brought: ClassVar[tuple[str, ...]] = ("own",)
    """What does not change along the way."""

    @property
    def rows(self) -> int:
        """How many there can be."""
        return next(iter(self.values.coordinates.values())).shape[-1]

    def recorded(self, rows: np.ndarray) -> PathRows:
        """The rows of these members, in NumPy."""
        return jax.tree_util.tree_map(
            lambda leaf: np.array(np.asarray(leaf)[rows]), self.values
        )

    def place(self, further: int = 0) -> Float[Array, ""]:
        """Where on the measure the next row belongs, or one further on, of one member."""
        number = self.values.count + further
        return number.astype(self.stride.dtype) * self.stride


class PathObserver(AbstractObserver):
    """What is recorded, and what points are spread over.

    Arguments:
        observe: a function of a snapshot and of what is a member's own.
        measure: of the way along a path.
        inside: whether points may lie inside a step, or only at the ends of steps.
    """

    observe: Callable[[Any, PyTree], PyTree[Array]]
    measure: AbstractMeasure
    divides: bool = eqx.field(static=True)

    @property
    def _most_in_a_step(self) -> int:
        return _MOST_IN_A_STEP if self.divides else 1

    def start(
        self, problem: Problem, lanes: Lane, recordings: PathRecording
    ) -> PathRecording:
        def begun(lane, recording):
            shown = _shown(problem, lane.past + lane.clock, lane.state, lane.args)
            memory, told = self.measure.begin(shown), jnp.ones((), bool)
            recording = dataclasses.replace(recording, memory=memory, told=told)
            return recording, self._row(shown, recording)

        recordings, first = jax.vmap(begun)(lanes, recordings)
        num = len(recordings.told)
        return _with(recordings, jnp.arange(num), jnp.zeros(num, jnp.int32), first)

    def follow(
        self,
        problem: Problem,
        before: Lane,
        after: Lane,
        attempts: Attempt,
        recordings: PathRecording,
    ) -> PathRecording:
        def piece(before, after, attempt, recording):
            return self._moved(problem, before, after, attempt, recording)

        recordings, pieces = jax.vmap(piece)(before, after, attempts, recordings)
        recordings = self._thinned(recordings)
        return self._filled(problem, recordings, pieces)

    def _moved(self, problem, before, after, attempt, recording):
        """What the step just tried has brought, if it was accepted."""
        accepted = attempt.accepted
        clock = before.past + attempt.start
        was = _shown(problem, clock, before.state, before.args)
        clock = before.past + attempt.arrival
        now = _shown(problem, clock, after.state, before.args)
        memory, growth = self.measure.step(recording.memory, was, now)
        counts = accepted & jnp.isfinite(growth) & (growth > 0)
        growth = jnp.where(counts, growth, 0.0).astype(recording.progress.dtype)
        begin = recording.progress
        first = growth / self._most_in_a_step
        moved = dataclasses.replace(
            recording,
            stride=jnp.where(recording.stride > 0, recording.stride, first),
            progress=begin + growth,
            memory=select(accepted, memory, recording.memory),
            told=recording.told & ~accepted,
        )
        ended = before.is_live & after.has_ended
        return moved, _Piece(
            before.past, attempt, after.state, before.args, begin, growth, ended
        )

    def _thinned(self, recordings: PathRecording) -> PathRecording:
        """Every second row dropped, until those that are due find room."""
        # One row is kept free for the end of the path.
        last = recordings.rows - 1

        def crowded(recording):
            full = last * recording.stride <= recording.progress
            many = recording.place(self._most_in_a_step)
            return (recording.stride > 0) & (full | (many <= recording.progress))

        def thinned(recording):
            every_second = jnp.minimum(2 * jnp.arange(recording.rows), last)
            kept = jax.tree_util.tree_map(
                lambda leaf: leaf[every_second],
                (recording.values.coordinates, recording.values.values),
            )
            count = (recording.values.count + 1) // 2
            values, stride = PathRows(count, *kept), 2 * recording.stride
            return dataclasses.replace(recording, values=values, stride=stride)

        def one_lane(recordings, lane):
            changed = thinned(row(recordings, lane))
            put = lambda all_of_them, one: all_of_them.at[lane].set(one)
            return jax.tree_util.tree_map(put, recordings, changed)

        def all_lanes(recordings, pending):
            changed = jax.vmap(thinned)(recordings)
            return jax.vmap(select)(pending, changed, recordings)

        return in_turn(recordings, jax.vmap(crowded), one_lane, all_lanes)

    def _filled(self, problem, recordings: PathRecording, pieces) -> PathRecording:
        """The rows that are due, and the last where a path has come to its end."""

        def due(recording):
            place = recording.place()
            room = recording.values.count < recording.rows - 1
            return (recording.stride > 0) & (place <= recording.progress) & room

        def pending(recordings):
            last = pieces.ended & ~recordings.told
            return jax.vmap(due)(recordings) | last

        def observe(recording, piece):
            place = recording.place()
            moves = piece.growth > 0
            share = (place - piece.begin) / jnp.where(moves, piece.growth, 1.0)
            inside = due(recording) & moves & (share < 1) & self.divides
            attempt, state, clock = piece.attempt, piece.state, piece.attempt.arrival
            if self.divides:
                length = attempt.arrival - attempt.start
                between = attempt.start + jnp.clip(share, 0.0, 1.0) * length
                clock = jnp.where(inside, between.astype(clock.dtype), clock)
                state = select(inside, attempt.interpolate(problem.stepper, clock), state)
            shown = _shown(problem, piece.past + clock, state, piece.args)
            return self._row(shown, recording), ~inside

        def one_lane(recordings, lane):
            observed, told = observe(*row((recordings, pieces), lane))
            place = recordings.values.count[lane]
            recordings = _with(recordings, lane, place, observed)
            return dataclasses.replace(recordings, told=recordings.told.at[lane].set(told))

        def all_lanes(recordings, waiting):
            observed, told = jax.vmap(observe)(recordings, pieces)
            places = jnp.where(waiting, recordings.values.count, recordings.rows)
            told = jnp.where(waiting, told, recordings.told)
            recordings = _with(recordings, jnp.arange(len(waiting)), places, observed)
            return dataclasses.replace(recordings, told=told)

        return in_turn(recordings, pending, one_lane, all_lanes)

    def _row(self, shown, recording):
        old = recording.values.coordinates
        coordinates = {name: shown[name].astype(old[name].dtype) for name in old}
        return coordinates, self.observe(shown, recording.own)


def path_recordings(
    num: int,
    rows: int,
    stride: float,
    own: PyTree,
    example: PyTree,
    measure: AbstractMeasure,
    coordinates: tuple[str, ...],
    dtype: Any,
) -> PathRecording:
    """Recordings of so many members before the start.

    Arguments:
        num: of members.
        rows: of points that one has at most, 2 or more.
        stride: of the measure from row to row; zero for as short a one as fits.
        own: what of the observer is each member's own, with a leading axis.
        example: what one member records at one point.
        measure: as for the observer.
        coordinates: quantities to keep, one or more.
        dtype: of the members.
    """
    zeros = lambda shape, dtype: on_device(np.zeros((num, *shape), dtype))
    by_rows = lambda leaf: zeros((rows, *leaf.shape), leaf.dtype)
    values = PathRows(
        count=zeros((), np.int32),
        coordinates={name: zeros((rows,), dtype) for name in coordinates},
        values=jax.tree_util.tree_map(by_rows, example),
    )

    def begin(value):
        quantities: dict[str, Any] = dict.fromkeys((*coordinates, "loss"), value)
        return measure.begin(Snapshot(None, quantities))

    memory = jax.eval_shape(begin, jax.ShapeDtypeStruct((), dtype))
    return PathRecording(
        values=values,
        stride=on_device(np.full(num, stride, dtype)),
        progress=zeros((), dtype),
        memory=jax.tree_util.tree_map(lambda leaf: zeros(leaf.shape, leaf.dtype), memory),
        told=zeros((), bool),
        own=jax.tree_util.tree_map(on_device, own),
    )


class _Piece(eqx.Module):
    """The stretch of a path that an attempt has added."""

    past: Real[Array, ""]  # on the flow's clock before that of the attempt began
    attempt: Attempt
    state: PyTree  # at its end, or as it was if nothing was added
    args: PyTree
    begin: Float[Array, ""]  # the progress at its start
    growth: Float[Array, ""]
    ended: Bool[Array, ""]  # whether the path ends here


def _shown(problem: Problem, clock, state, args):
    # No recorder reads the velocity; anything of its shape will do.
    return problem.flow.snapshot(clock, state, state, args)


def _with(recordings: PathRecording, lanes, places, observed) -> PathRecording:
    """The recordings with another row each, at a place behind the last."""
    old = recordings.values
    coordinates, values = written((old.coordinates, old.values), lanes, places, observed)
    more = jnp.asarray(places < recordings.rows).astype(old.count.dtype)
    count = old.count.at[lanes].add(more)
    return dataclasses.replace(recordings, values=PathRows(count, coordinates, values))
