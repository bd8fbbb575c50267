"""From what the engine gives back to a `Solution`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..engine import join, Outcome, status_names, take
from ..flows import AbstractNetworkFlow, blow_up_time, CorrelationFlow, Snapshot
from ..networks import unflatten_rows
from ..observables import dimensions
from ..results import Records, Solution, Stats
from ..solvers import AbstractStagedSolver, count_evaluations, Work
from ..stopping import AbstractStop, Stationary
from ._checks import Recordables, Stepping
from ._networks import rows_of

_PIECE = 256
"""Members are evaluated in pieces of at most this many, so that few sizes are compiled."""


class Outcomes:
    """Makes solutions of any members of one run.

    **Arguments:** all that the members have in common.
    """

    def __init__(
        self,
        kind: str,
        flow: AbstractNetworkFlow,
        *,
        scales: np.ndarray,  # δ and log δ, one number or one for each member
        log_scales: np.ndarray,
        stops: tuple[AbstractStop, ...],
        stepping: Stepping,
        recordables: Recordables | None,
        attrs: Mapping[str, Any],
    ):
        self.kind = kind
        self.attrs = attrs
        self._flow = flow
        self._scales = scales
        self._log_scales = log_scales
        self._stepping = stepping
        self._recordables = recordables
        self._names = dict(zip(*status_names(stops)))

    @property
    def statuses(self) -> tuple[str, ...]:
        """What can end a member."""
        return tuple(self._names.values())

    def solution(self, indices: np.ndarray, outcome: Outcome) -> Solution:
        """The solution of these members."""
        log_scales = rows_of(self._log_scales, indices)
        status = np.array([self._names[int(code)] for code in outcome.status], dtype=str)
        at_rest = status == Stationary.__name__
        final = _in_pieces(
            _final, self._flow, (outcome.clock, outcome.state, log_scales, at_rest)
        )
        snapshot = final.snapshot
        return Solution(
            kind=self.kind,
            directions=unflatten_rows(self._flow.network, snapshot.direction),
            log_norm=snapshot.log_norm,
            scale=rows_of(self._scales, indices),
            rescaled_time=snapshot.rescaled_time,
            log_time=snapshot.log_time,
            loss=snapshot.loss,
            status=status,
            stats=_stats(outcome, self._stepping),
            records=_records(outcome, self._recordables, indices),
            blow_up_time=final.blow_up_time,
            attrs=self.attrs,
        )

    def none(self) -> Outcome:
        """The outcome of no members at all, of the shapes that one would have."""
        real = np.zeros(0, self._log_scales.dtype)
        whole = np.zeros(0, np.int32)
        log_scale = jax.ShapeDtypeStruct((), real.dtype)
        example = eqx.filter_eval_shape(self._flow.enter, self._flow.network, log_scale)
        state = jax.tree_util.tree_map(
            lambda leaf: np.zeros((0, *leaf.shape), leaf.dtype), example
        )
        values = None
        if self._recordables is not None:
            points = self._recordables.grid.shape[-1]
            values = {
                name: np.zeros((0, points, *leaf.shape), leaf.dtype)
                for name, leaf in self._recordables.example.items()
            }
        counted = isinstance(self._stepping.solver, AbstractStagedSolver)
        work = Work(whole, whole, whole) if counted else None
        return Outcome(real, state, whole, whole, whole, work, values)


class _Final(NamedTuple):
    snapshot: Snapshot
    blow_up_time: Any  # None but in the limit δ → 0


@eqx.filter_jit
def _final(flow, members) -> _Final:
    """Every member where it ended."""

    def one(member):
        clock, state, log_scale, at_rest = member
        velocity = flow.vector_field(clock, state, log_scale)
        snapshot = flow.snapshot(clock, state, velocity, log_scale)
        if not isinstance(flow, CorrelationFlow):
            return _Final(snapshot, None)
        return _Final(snapshot, blow_up_time(snapshot, velocity, flow.order, at_rest))

    # In pieces: all members at once would need all their activations at once.
    return jax.lax.map(one, jax.tree_util.tree_map(jnp.asarray, members), batch_size=64)


def _in_pieces(function, flow, members: PyTree) -> Any:
    """`function(flow, members)` in NumPy, for any number of members."""
    num = len(jax.tree_util.tree_leaves(members)[0])
    # Whole powers of two: a run compiles a few sizes at most, another run none.
    size = min(_PIECE, 1 << max(0, num - 1).bit_length())
    if num == 0:
        shapes = eqx.filter_eval_shape(function, flow, members)
        return jax.tree_util.tree_map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    pieces = []
    for first in range(0, num, size):
        rows = np.minimum(np.arange(first, first + size), num - 1)
        piece = jax.device_get(function(flow, take(members, rows)))
        pieces.append(take(piece, slice(num - first)))
    return join(pieces)


def _stats(outcome: Outcome, stepping: Stepping) -> Stats:
    evaluations = count_evaluations(stepping.solver, stepping.first_step is None)
    work = outcome.work
    num_vjps = None
    if work is not None:
        num_vjps = evaluations.at_start + np.asarray(work.num_evaluations)
    elif evaluations.per_attempt is not None:
        num_vjps = evaluations.at_start + evaluations.per_attempt * outcome.num_steps
    return Stats(
        num_steps=outcome.num_steps,
        num_accepted=outcome.num_accepted,
        num_rejected=outcome.num_steps - outcome.num_accepted,
        num_vjps=num_vjps,
        num_stabilized=None if work is None else np.asarray(work.num_stabilized),
        num_power_iterations=(
            None if work is None else np.asarray(work.num_power_iterations)
        ),
    )


def _records(outcome: Outcome, recordables: Recordables | None, indices) -> Records | None:
    if recordables is None:
        return None
    grid = recordables.grid
    return Records(
        over=recordables.over,
        grid=grid if grid.ndim == 1 else grid[indices],
        # In the caller's order; JAX sorts the keys of dicts.
        values={name: outcome.values[name] for name in recordables.functions},
        dims={
            name: dimensions(name, function, len(recordables.example[name].shape))
            for name, function in recordables.functions.items()
        },
    )


def without_axis(solution: Solution) -> Solution:
    """The solution of a single network, which has no axis of members."""

    def first(tree):
        return jax.tree_util.tree_map(
            lambda leaf: _first(leaf) if eqx.is_array(leaf) else leaf, tree
        )

    stats, records = solution.stats, solution.records
    fields = {
        name: first(getattr(solution, name))
        for name in (
            "directions",
            "log_norm",
            "scale",
            "rescaled_time",
            "log_time",
            "loss",
            "status",
            "blow_up_time",
        )
    }
    if records is not None:
        grid = records.grid if records.grid.ndim == 1 else records.grid[0]
        values = {name: first(array) for name, array in records.values.items()}
        records = Records(records.over, grid, values, records.dims)
    return Solution(
        kind=solution.kind,
        stats=Stats(**{k: first(v) for k, v in vars(stats).items()}),
        records=records,
        attrs=solution.attrs,
        **fields,
    )


def _first(leaf):
    """The first row; a NumPy array stays one when no axis is left."""
    return np.asarray(leaf[0]) if isinstance(leaf, np.ndarray) else leaf[0]
