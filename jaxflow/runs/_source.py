"""Members for the engine: networks entered into their flow, with thresholds and grids."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._arrays import on_device
from .._compiled import compiled
from .._rows import map_lanes
from ..engine import Members, Pool, Problem, Start
from ..flows import AbstractNetworkFlow, MemberStart
from ..networks import member_numbers
from ._numbers import of_rows
from ._simulation import Simulation


class MemberSource:
    """Gives the engine the members of a simulation, a few at a time.

    Given the `simulation` and its `problem`; the `rows` of those members that are
    meant, all if not given; and a function of places among them that gives the lanes from
    which they go on, where they do not start.
    """

    def __init__(
        self,
        simulation: Simulation,
        problem: Problem,
        rows: np.ndarray | None = None,
        kept: Callable[[np.ndarray], Pool] | None = None,
    ):
        self._simulation = simulation
        self._rows, self._kept = rows, kept
        self._flow: Any = problem.flow
        self._num = simulation.num  # an Equinox module's methods are slow to look up
        self._dtype = simulation.networks.dtype
        record = simulation.record
        self._examples: Any = None
        if record is not None:
            self._examples = record.examples(simulation.networks, simulation.task.example)
            self._places = record.places(problem)

    @property
    def total(self) -> int | None:
        if self._rows is not None:
            return len(self._rows)
        return self._simulation.num if self._num is None else self._num

    def has(self, index: int) -> bool:
        if self._rows is not None:
            return index < len(self._rows)
        if self._num is not None:
            return index < self._num
        return self._simulation.networks.has(index)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """The rows of these members in the simulation."""
        return indices if self._rows is None else self._rows[indices]

    def draw(self, indices: np.ndarray) -> Members:
        """These members before their start, or from where they go on; numbers from 0 on."""
        kept = None if self._kept is None else self._kept(indices)
        indices = self.rows(indices)
        simulation = self._simulation
        networks = simulation.networks.stacked(indices)
        states, args = _enter(self._flow, networks, starts_of(simulation, indices))
        stops = jax.tree_util.tree_map(
            lambda threshold: on_device(of_rows(threshold, indices)), simulation.stops
        )
        record = simulation.record
        recordings = None
        if record is not None:
            own = record.own(indices, simulation.own(indices))
            recordings = self._places.recordings(indices, own, self._examples, self._dtype)
        return Members(Start(states, args, stops), recordings, kept)


def starts_of(simulation: Simulation, rows: np.ndarray) -> MemberStart:
    """What differs from member to member and stays fixed, of the members in these rows."""
    numbers = np.asarray(rows, np.int64) + simulation.networks.start
    log_scale = of_rows(simulation.scale.logarithms, rows)
    return MemberStart(log_scale, member_numbers(numbers), simulation.own(rows))


@compiled
def _enter(flow: AbstractNetworkFlow, networks: eqx.Module, starts: MemberStart):
    """The states of members, and their `args`."""
    arrays, rest = eqx.partition(networks, eqx.is_array)

    def one(member):
        network, start = member
        args = flow.args_of(start)
        return flow.enter(eqx.combine(network, rest), args), args

    return map_lanes(one, (arrays, starts))
