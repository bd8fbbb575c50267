"""Flows of members that are rows of parameters, to be continued from where they ended."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from .._arrays import on_device
from .._compiled import compiled
from .._rows import map_lanes
from ..engine import (
    Given,
    InMemory,
    Members,
    progress_bar,
    run,
    Schedule,
    Start,
    status_names,
    with_loss,
)
from ..flows import AbstractNetworkFlow, Snapshot
from ..networks import unflattener
from ..runs import problem_of, Stepping
from ..stops import AbstractStop


class RowEnds(NamedTuple):
    """Where every member ended, arrays with a leading axis of members."""

    at: Snapshot  # in NumPy
    status: np.ndarray  # the name of what ended the member
    num_steps: np.ndarray
    num_vjps: np.ndarray | None


class RowFlow:
    """A flow with its settings, ready for any number of runs with the same stop conditions.

    All members take part in every run: a member that is to stay where it is has a stop
    condition that holds at its start. So the shapes stay, and one program is compiled.

    Given a polar `flow`, how it is integrated, and what the progress bar says.
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
        self._dtype = dtype
        self._schedule = schedule
        self._progress = progress
        self._title = title

    def run(
        self, rows: np.ndarray, args: np.ndarray, stops: tuple[AbstractStop, ...]
    ) -> RowEnds:
        """Every member from its row, with its own `args` and thresholds, to a stop.

        Arguments:
            rows: (members, parameters).
            args: with a leading axis of members, as every threshold.
        """
        cast = lambda tree: jax.tree_util.tree_map(self._as_array, tree)
        args, stops = cast(args), cast(stops)
        states = _states(self._flow, cast(rows), args)
        sink = InMemory()
        per_step = self._problem.stepper.evaluations_per_attempt
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
        at = jax.device_get(_ends(self._flow, cast(outcome.clock), outcome.state, args))
        names = dict(zip(*status_names(stops)))
        codes = with_loss(outcome.status, at.loss)
        return RowEnds(
            at=at,
            status=np.array([names[int(code)] for code in codes], dtype=object),
            num_steps=outcome.num_steps.astype(np.int64),
            num_vjps=_counted(outcome.work.num_evaluations),
        )

    def _as_array(self, leaf: Any) -> Any:
        real = np.asarray(leaf).dtype.kind == "f"
        return on_device(leaf, self._dtype if real else None)


def _counted(numbers: Any) -> np.ndarray | None:
    return None if numbers is None else np.asarray(numbers, np.int64)


@compiled
def _states(flow: AbstractNetworkFlow, rows, args) -> PyTree:
    def one(member):
        row, own = member
        return flow.enter(unflattener(flow.network)(row), own)

    return map_lanes(one, (rows, args))


@compiled
def _ends(flow: AbstractNetworkFlow, clocks, states, args) -> Snapshot:
    def one(member):
        clock, state, own = member
        velocity = flow.vector_field(clock, state, own)
        return flow.snapshot(clock, state, velocity, own)

    return map_lanes(one, (clocks, states, args))
