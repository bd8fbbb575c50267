"""A lane: one initialization in flight, and one attempted step of it.

A lane is what `diffrax.diffeqsolve` keeps between two iterations of its loop, so that a
step here is a step there, and so that whoever drives lanes may stop and go on anywhere.
With a solver that makes its steps one evaluation at a time, that may be within a step: no
lane then waits for another that takes more stages.
Everything in this file is about one lane; `pool.py` maps it over many.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from ..flows import AbstractFlow, AbstractRandomizedFlow
from ..solvers import AbstractStagedSolver, OptimizerSteps, Work
from ..stopping import AbstractStop
from . import _status as status
from ._crossing import first_crossing


class Problem(eqx.Module):
    """What all lanes share: the flow, how a step is made, and when to give up."""

    flow: AbstractFlow
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    max_steps: Int[Array, ""]
    first_step: Float[Array, ""] | None  # None: the controller chooses

    def terms(self, args: PyTree) -> diffrax.AbstractTerm:
        """What the solver integrates for a member with these `args`."""
        flow = self.flow
        if isinstance(flow, AbstractRandomizedFlow):
            return flow.terms(args)
        return diffrax.ODETerm(flow.vector_field)  # pyright: ignore[reportArgumentType]


class Start(eqx.Module):
    """What one member brings to a lane."""

    state: PyTree
    args: PyTree
    stops: tuple[AbstractStop, ...]


class Lane(eqx.Module):
    """One initialization in flight, or many with leading axes `lanes`."""

    elapsed: Real[Array, "*lanes"]  # on the flow's clock before `clock` was last reset
    clock: Real[Array, "*lanes"]
    next_clock: Real[Array, "*lanes"]
    state: PyTree
    solver_state: PyTree
    controller_state: PyTree
    args: PyTree
    stops: tuple[AbstractStop, ...]
    num_steps: Int[Array, "*lanes"]
    num_accepted: Int[Array, "*lanes"]
    status: Int[Array, "*lanes"]

    @property
    def work(self) -> Work | None:
        """What the steps have cost; `None` where every step costs the same."""
        return getattr(self.solver_state, "work", None)

    @property
    def is_live(self) -> Bool[Array, "*lanes"]:
        return self.status == status.RUNNING


class Attempt(eqx.Module):
    """The step that was just tried, for whoever reads values inside it."""

    start: Real[Array, ""]
    end: Real[Array, ""]
    dense_info: PyTree
    accepted: Bool[Array, ""]
    arrival: Real[Array, ""]  # where the path ends: before `end` if a member landed

    def interpolate(self, solver: diffrax.AbstractSolver, clock: Real[Array, ""]) -> PyTree:
        """The state at a clock inside the step, by the solver's dense output."""
        return _interpolation(solver, self.start, self.end, self.dense_info).evaluate(clock)


def start(problem: Problem, member: Start) -> Lane:
    """A lane before its first step; done already if a stop condition holds there."""
    flow, solver = problem.flow, problem.solver
    state, args = member.state, member.args
    terms = problem.terms(args)
    dtype = jnp.result_type(*jax.tree_util.tree_leaves(state))
    clock = jnp.zeros((), dtype)
    last_clock = jnp.min(_last_clocks(flow, member.stops, args, dtype), initial=jnp.inf)
    next_clock, controller_state = problem.controller.init(
        terms,
        clock,
        last_clock,
        state,
        problem.first_step,
        args,
        solver.func,
        solver.error_order(terms),
    )
    next_clock = jnp.minimum(next_clock, last_clock).astype(dtype)
    velocity = flow.vector_field(clock, state, args)
    gaps = _gaps(flow, member.stops, clock, state, velocity, args, dtype)
    return Lane(
        elapsed=jnp.zeros_like(clock),
        clock=clock,
        next_clock=next_clock,
        state=state,
        solver_state=_as_arrays(solver.init(terms, clock, next_clock, state, args)),
        controller_state=_as_arrays(controller_state),
        args=args,
        stops=member.stops,
        num_steps=jnp.zeros((), jnp.int32),
        num_accepted=jnp.zeros((), jnp.int32),
        status=jnp.where(
            _all_finite(velocity), _first_reached(gaps >= 0), status.NON_FINITE
        ),
    )


def attempt(problem: Problem, lane: Lane) -> tuple[Lane, Attempt]:
    """Try one step; accept it, reject it, or land on an exact stop condition.

    The order of operations is that of diffrax's own loop. A lane that is done stays as
    it is. A step that is made one evaluation at a time may need several attempts.
    """
    flow, solver = problem.flow, problem.solver
    dtype = lane.clock.dtype
    start, end = lane.clock, lane.next_clock
    step = _try_step(problem, lane)
    candidate, dense_info = step.candidate, step.dense_info
    error = jax.tree_util.tree_map(
        lambda e: jnp.where(jnp.isnan(e), jnp.inf, e), step.error
    )
    kept, _, proposal, _, controller_state, controller_result = (
        problem.controller.adapt_step_size(
            start,
            end,
            lane.state,
            candidate,
            lane.args,
            error,
            step.error_order,
            lane.controller_state,
        )
    )
    kept = jnp.asarray(kept) & step.ready
    finite = _all_finite(candidate)

    dense = _interpolation(solver, start, end, dense_info)
    gaps = _gaps(flow, lane.stops, end, candidate, dense.derivative(end), lane.args, dtype)
    last_clocks = _last_clocks(flow, lane.stops, lane.args, dtype)
    passed = kept & finite & ((gaps >= 0) | (end >= last_clocks))
    divisible = not isinstance(solver, OptimizerSteps)  # an update is made or not made
    if divisible and any(_is_searched(flow, stop, lane.args) for stop in lane.stops):
        crossings = _crossings(flow, lane, dense, passed)
        crossing = jnp.min(crossings)
        crossed = crossing < end
        # A crossing well inside the step is reached by a step of its own, of full
        # accuracy; one next to either end of the step is read off the dense output. So is
        # one that rounding cannot tell from the start: a step there would lead nowhere.
        depth = jnp.minimum(crossing - start, end - crossing)
        leads_on = _differ(dense.evaluate(crossing), lane.state)
        retried = crossed & (depth > _NEAR * (end - start)) & leads_on
        landed = crossed & ~retried
        reached = jnp.where(landed, crossings == crossing, passed)
        arrival = jnp.where(landed, crossing, end)
        state = _where(landed, dense.evaluate(arrival), candidate)
    else:  # no dense output is read, so that none is computed
        crossing, arrival, state, reached = end, end, candidate, passed
        retried = jnp.zeros((), bool)
    accepted = kept & finite & ~retried
    reached = reached & accepted

    last_clock = jnp.min(last_clocks, initial=jnp.inf)
    clock = arrival = jnp.where(accepted, arrival, start)
    solver_state = step.solver_state(accepted)
    if isinstance(solver, AbstractStagedSolver):
        proposal = jnp.minimum(proposal, clock + solver.longest_step(solver_state))
    proposal = _clip_to_end(clock, proposal, last_clock, kept)
    next_clock = jnp.where(retried, crossing, proposal).astype(dtype)
    next_clock = jnp.where(step.ready, next_clock, end)
    # A step of a few units in the last place of the clock leads nowhere. Not `<=`: a next
    # clock that is NaN is no progress either.
    least = 8 * jnp.finfo(dtype).eps * jnp.abs(clock)
    stuck = ~(next_clock - clock > least)
    # Where no clock is known at which to end, the clock starts again with every step: a
    # deep network moves slowly at first, and a large clock would round short steps away.
    reset = jnp.isinf(last_clock)
    num_steps = lane.num_steps + step.ready.astype(jnp.int32)
    advanced = Lane(
        elapsed=lane.elapsed + jnp.where(reset, clock, 0.0),
        clock=jnp.where(reset, 0.0, clock),
        next_clock=jnp.where(reset, next_clock - clock, next_clock),
        state=_where(accepted, state, lane.state),
        solver_state=solver_state,
        controller_state=_where(
            retried | ~step.ready, lane.controller_state, _as_arrays(controller_state)
        ),
        args=lane.args,
        stops=lane.stops,
        num_steps=num_steps,
        num_accepted=lane.num_accepted + accepted.astype(jnp.int32),
        status=_first_that_holds(
            (jnp.any(reached), _first_reached(reached)),
            (kept & ~finite, status.NON_FINITE),
            (kept & _failed(step.result), status.SOLVER_FAILED),
            (step.ready & _failed(controller_result), status.STEP_TOO_SMALL),
            (stuck & ~finite, status.NON_FINITE),
            (stuck, status.STEP_TOO_SMALL),
            (num_steps >= problem.max_steps, status.MAX_STEPS),
        ),
    )
    live = lane.is_live
    tried = Attempt(start, end, dense_info, accepted & live, arrival)
    return _where(live, advanced, lane), tried


class _Step(NamedTuple):
    """A step as the solver made it, before anybody has judged it."""

    candidate: PyTree
    error: PyTree
    error_order: Any
    dense_info: PyTree
    result: diffrax.RESULTS
    ready: Bool[Array, ""]  # else it goes on in the next attempt, and all else is void
    solver_state: Callable[[Bool[Array, ""]], PyTree]  # after it was accepted, or not


def _try_step(problem: Problem, lane: Lane) -> _Step:
    start, end, state, args = lane.clock, lane.next_clock, lane.state, lane.args
    solver, terms = problem.solver, problem.terms(args)
    if isinstance(solver, AbstractStagedSolver):
        progress = solver.advance(terms, start, end, state, args, lane.solver_state)
        ready = solver.is_ready(progress)
        candidate, error, dense_info = solver.finish(start, end, state, progress)

        def settled(accepted):
            return _where(
                ready, solver.settle(start, end, state, progress, accepted), progress
            )

        successful = diffrax.RESULTS.successful
        order = solver.error_order_of(progress)
        return _Step(candidate, error, order, dense_info, successful, ready, settled)
    # Gradient flow does not depend on the clock, so nothing jumps and `made_jump` stays
    # False: as a traced value it would cost FSAL solvers one evaluation in every step.
    candidate, error, dense_info, solver_state, result = solver.step(
        terms, start, end, state, args, lane.solver_state, False
    )
    return _Step(
        candidate,
        error,
        solver.error_order(terms),
        dense_info,
        result,
        jnp.asarray(True),
        lambda accepted: _where(accepted, _as_arrays(solver_state), lane.solver_state),
    )


# A share of the step below which its dense output is as good as its end.
_NEAR = 1e-4


def _interpolation(solver, start, end, dense_info):
    return solver.interpolation_cls(t0=start, t1=end, **dense_info)


def _gaps(flow, stops, clock, state, velocity, args, dtype) -> Float[Array, " stops"]:
    snapshot = flow.snapshot(clock, state, velocity, args)
    gaps = [jnp.asarray(stop.gap(snapshot)).astype(dtype) for stop in stops]
    return jnp.stack(gaps) if gaps else jnp.zeros(0, dtype)


def _last_clocks(flow, stops, args, dtype) -> Float[Array, " stops"]:
    """Where the conditions end the member; infinity where only integration can tell."""
    found = [stop.clock(flow, args) for stop in stops]
    clocks = [jnp.asarray(jnp.inf if c is None else c).astype(dtype) for c in found]
    return jnp.stack(clocks) if clocks else jnp.zeros(0, dtype)


def _is_searched(flow, stop, args) -> bool:
    """Whether the end has to be found inside a step."""
    return stop.exact and stop.clock(flow, args) is None


def _crossings(flow, lane, dense, wanted) -> Float[Array, " stops"]:
    """Where each condition that is searched is met; infinity for the others."""

    def one(stop, wanted):
        if not _is_searched(flow, stop, lane.args):
            return jnp.full_like(lane.clock, jnp.inf)

        def gap(clock):
            state = dense.evaluate(clock)
            # No exact condition reads the velocity; anything of its shape will do.
            return stop.gap(flow.snapshot(clock, state, state, lane.args))

        clock = first_crossing(gap, lane.clock, lane.next_clock, wanted)
        return jnp.where(wanted, clock, jnp.inf)

    found = [one(stop, wanted[i]) for i, stop in enumerate(lane.stops)]
    return jnp.stack(found) if found else jnp.zeros(0, lane.clock.dtype)


def _clip_to_end(clock, next_clock, last_clock, kept):
    """Step onto the last clock rather than past it or just short of it.

    diffrax's rule: a step that would end within 100 units in the last place of the end
    ends there; after a rejection, go half of the way.
    """
    floor = last_clock * (1 - 50 * jnp.finfo(clock.dtype).eps)
    clipped = jnp.where(kept, last_clock, clock + 0.5 * (last_clock - clock))
    return jnp.where(next_clock > floor, clipped, next_clock)


def _first_reached(reached: Bool[Array, " stops"]) -> Int[Array, ""]:
    """The code of the first stop condition reached, or that of a member still running."""
    if reached.size == 0:
        return jnp.asarray(status.RUNNING, jnp.int32)
    code = 1 + jnp.argmax(reached)
    return jnp.where(jnp.any(reached), code, status.RUNNING).astype(jnp.int32)


def _first_that_holds(*cases) -> Int[Array, ""]:
    code = jnp.asarray(status.RUNNING, jnp.int32)
    for holds, value in reversed(cases):
        code = jnp.where(holds, jnp.asarray(value, jnp.int32), code)
    return code


def _failed(result: diffrax.RESULTS) -> Bool[Array, ""]:
    return jnp.asarray(result != diffrax.RESULTS.successful)


def _all_finite(tree) -> Bool[Array, ""]:
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree_util.tree_leaves(tree)]
    return jnp.all(jnp.stack(leaves))


def _differ(new, old) -> Bool[Array, ""]:
    """Whether two states differ by more than the rounding of their largest entries."""

    def one(a, b):
        rounding = 4 * jnp.finfo(a.dtype).eps * jnp.max(jnp.abs(b), initial=0.0)
        return jnp.any(jnp.abs(a - b) > rounding)

    leaves = jax.tree_util.tree_leaves(jax.tree_util.tree_map(one, new, old))
    return jnp.any(jnp.stack(leaves))


def _where(condition, new, old):
    return jax.tree_util.tree_map(lambda a, b: jnp.where(condition, a, b), new, old)


def _as_arrays(tree):
    """Python numbers in a solver's or controller's state become arrays, to be carried."""
    return jax.tree_util.tree_map(jnp.asarray, tree)
