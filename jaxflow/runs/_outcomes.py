"""From what the engine gives back to a `Solution`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .._compiled import compiled
from .._rows import map_lanes
from ..engine import (
    join,
    Outcome,
    Problem,
    RESTS_AT_KINK,
    status_names,
    take,
    with_loss,
)
from ..results import brief, Given, Records, Solution, Stats
from ..solvers import EVALUATIONS_OF_CHOICE, Work
from ._simulation import Simulation
from ._source import MemberSource, starts_of

_LEAST, _PIECE = 8, 256
"""Members are evaluated in pieces of at least and at most so many. Few sizes are compiled,
and how many members are stored at a time changes no bit: fewer than a register holds are
rounded in another way (see `engine/_schedule.py`)."""
_FINAL = ("log_norm", "rescaled_time", "log_time", "loss")


class Outcomes:
    """Makes solutions of any members of one run.

    Given the simulation, its problem, and what results keep: `settings` of the run and the
    caller's `attrs`.
    """

    def __init__(
        self,
        simulation: Simulation,
        problem: Problem,
        settings: Mapping[str, Any],
        attrs: Mapping[str, Any],
    ):
        self._simulation = simulation
        self._dtype = simulation.networks.dtype
        self._problem = problem
        self._settings = settings
        self._attrs = attrs
        self._names = dict(zip(*status_names(simulation.stops)))
        self._at_rest = [False, *(stop.at_rest for stop in simulation.stops)]
        self._dims = {}
        if (record := simulation.record) is not None:
            examples = record.examples(simulation.networks, simulation.task.example)
            self._dims = record.dims(examples)
            self._rest = record.rest(simulation.networks, simulation.task.example)
            self._places = record.places(problem)

    @property
    def statuses(self) -> tuple[str, ...]:
        """What can end a member."""
        return tuple(self._names.values())

    def solution(self, rows: np.ndarray, outcome: Outcome) -> Solution:
        """The solution of the members in these rows."""
        simulation, flow = self._simulation, self._problem.flow
        at_rest = np.array(self._at_rest)[np.maximum(outcome.status, 0)]
        at_rest |= outcome.status == RESTS_AT_KINK
        starts = starts_of(simulation, rows)
        with jax.debug_nans(False):  # what nobody can know of a member is NaN in a result
            ends = (outcome.clock, outcome.state, starts, at_rest)
            final = _in_pieces(_final, flow, ends)
        none = np.full(len(rows), np.nan, self._dtype)
        codes = with_loss(outcome.status, final.quantities.get("loss"))
        known = {name: final.quantities.get(name, none) for name in _FINAL}
        return Solution(
            kind=simulation.equation.kind,
            read_directions=Given(simulation.networks.at(rows, final.direction)),
            scale=simulation.scale.of(rows).values,
            status=np.array([self._names[int(code)] for code in codes], dtype=str),
            stats=self._stats(outcome),
            records=self._records(outcome, rows),
            blow_up_time=final.further.get("blow_up_time"),
            settings=self._settings,
            attrs=self._attrs,
            members=brief(rows + simulation.networks.start),
            **known,
        )

    def losses_at_start(self, source: MemberSource, rows: np.ndarray) -> np.ndarray:
        """The losses with which the members in these rows began."""

        def of_piece(piece: np.ndarray) -> np.ndarray:
            states = jax.device_get(source.draw(piece).starts.state)
            starts = starts_of(self._simulation, source.rows(piece))
            zeros = np.zeros(len(piece))
            members = (zeros.astype(self._dtype), states, starts, zeros.astype(bool))
            return _in_pieces(_final, self._problem.flow, members).quantities["loss"]

        num = max(1, -(-len(rows) // _PIECE))
        return np.concatenate([of_piece(piece) for piece in np.array_split(rows, num)])

    def _stats(self, outcome: Outcome) -> Stats:
        work: Work = outcome.work
        counted = lambda count: None if count is None else np.asarray(count)
        num_vjps = counted(work.num_evaluations)
        if num_vjps is not None and self._problem.first_step is None:
            num_vjps = num_vjps + EVALUATIONS_OF_CHOICE
        return Stats(
            num_steps=outcome.num_steps,
            num_accepted=outcome.num_accepted,
            num_rejected=outcome.num_steps - outcome.num_accepted,
            num_vjps=num_vjps,
            num_stabilized=counted(work.num_stabilized),
            num_power_iterations=counted(work.num_power_iterations),
        )

    def _records(self, outcome: Outcome, rows: np.ndarray) -> Records | None:
        record = self._simulation.record
        if record is None:
            return None
        # In the caller's order; JAX sorts the keys of dicts.
        names = tuple(record.functions)
        found = self._places.records(rows, outcome.values, names, self._dims)
        whole = {n: eqx.combine(found.values[n], self._rest[n]) for n in names}
        return dataclasses.replace(found, values=whole)


class _Final(NamedTuple):
    direction: Any
    quantities: dict[str, Any]
    further: dict[str, Any]  # columns that only this flow has


@compiled
def _final(flow, members) -> _Final:
    """Every member where it ended."""

    def one(member):
        clock, state, start, at_rest = member
        args = flow.args_of(start)
        velocity = flow.vector_field(clock, state, args)
        shown = flow.snapshot(clock, state, velocity, args)
        quantities = {k: v for k, v in shown.quantities.items() if k in _FINAL}
        return _Final(shown.direction, quantities, flow.at_end(shown, at_rest))

    return map_lanes(one, jax.tree_util.tree_map(jnp.asarray, members))


def _in_pieces(function, flow, members: PyTree) -> Any:
    """`function(flow, members)` in NumPy, for any number of members."""
    num = len(jax.tree_util.tree_leaves(members)[0])
    # Whole powers of two: a run compiles a few sizes at most, another run none.
    size = min(_PIECE, max(_LEAST, 1 << max(0, num - 1).bit_length()))
    if num == 0:
        shapes = eqx.filter_eval_shape(function, flow, members)
        return jax.tree_util.tree_map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    pieces = []
    for first in range(0, num, size):
        rows = np.minimum(np.arange(first, first + size), num - 1)
        piece = jax.device_get(function(flow, take(members, rows)))
        pieces.append(take(piece, slice(num - first)))
    return join(pieces)
