"""Flows of members that are rows of parameters, to be continued from where they ended."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..engine import (
    Given,
    InMemory,
    Members,
    progress_bar,
    run,
    Schedule,
    Start,
    status_names,
)
from ..flows import AbstractNetworkFlow, Snapshot
from ..networks import unflattener
from ..runs._checks import Stepping
from ..runs._functions import problem_of
from ..solvers import count_evaluations
from ..stopping import AbstractStop


class RowEnds(NamedTuple):
    """Where every member ended, arrays with a leading axis of members."""

    at: Snapshot  # in NumPy
    log_gradient: np.ndarray
    growth_rate: np.ndarray  # dρ/dτ = ⟨v, g⟩, with its sign
    status: np.ndarray  # the name of what ended the member
    num_steps: np.ndarray
    num_vjps: np.ndarray | None


class RowFlow:
    """A flow with its settings, ready for any number of runs with the same stop conditions.

    All members take part in every run: a member that is to stay where it is has a stop
    condition that holds at its start. So the shapes stay, and one program is compiled.

    **Arguments:** a polar `flow`, how it is integrated, and what the progress bar says.
    """

    def __init__(
        self,
        flow: AbstractNetworkFlow,
        stepping: Stepping,
        dtype: Any,
        schedule: Schedule,
        progress: bool | None,
        title: str,
    ):
        self._flow = flow
        self._problem = problem_of(flow, stepping, dtype)
        self._evaluations = count_evaluations(stepping.solver, stepping.first_step is None)
        self._dtype = dtype
        self._schedule = schedule
        self._progress = progress
        self._title = title

    def run(
        self, rows: np.ndarray, args: np.ndarray, stops: tuple[AbstractStop, ...]
    ) -> RowEnds:
        """Every member from its row, with its own `args` and thresholds, to a stop.

        **Arguments:** `rows` (members, parameters); `args` and every threshold with a
        leading axis of members.
        """
        cast = lambda tree: jax.tree_util.tree_map(
            lambda leaf: jnp.asarray(leaf, self._dtype), tree
        )
        args, stops = cast(args), cast(stops)
        states = _states(self._flow, cast(rows), args)
        sink = InMemory()
        per_step = self._evaluations.per_attempt
        with progress_bar(self._title, self._progress, per_step) as on_progress:
            run(
                self._problem,
                Given(Members(Start(states, args, stops), None)),
                sink,
                schedule=self._schedule,
                on_progress=on_progress,
            )
        outcome = sink.outcome()
        assert outcome is not None
        at, growth_rate = jax.device_get(
            _ends(self._flow, cast(outcome.clock), outcome.state, args)
        )
        names = dict(zip(*status_names(stops)))
        work = outcome.work
        return RowEnds(
            at=at,
            log_gradient=np.asarray(at.log_gradient),
            growth_rate=growth_rate,
            status=np.array([names[int(code)] for code in outcome.status], dtype=object),
            num_steps=outcome.num_steps.astype(np.int64),
            num_vjps=None if work is None else np.asarray(work.num_evaluations, np.int64),
        )


@eqx.filter_jit
def _states(flow: AbstractNetworkFlow, rows, args) -> PyTree:
    def one(member):
        row, own = member
        return flow.enter(unflattener(flow.network)(row), own)

    return jax.lax.map(one, (rows, args), batch_size=64)


@eqx.filter_jit
def _ends(flow: AbstractNetworkFlow, clocks, states, args) -> tuple[Snapshot, Any]:
    def one(member):
        clock, state, own = member
        velocity = flow.vector_field(clock, state, own)
        return flow.snapshot(clock, state, velocity, own), velocity.log_growth

    return jax.lax.map(one, (clocks, states, args), batch_size=64)
