"""A lane: one initialization in flight, and one attempted step of it.

A lane is what `diffrax.diffeqsolve` keeps between two iterations of its loop, so that a
step here is a step there, and so that a run may stop and go on between any two of them.
With a stepper that makes its steps one evaluation at a time, that may be within a step: no
lane then waits for another that takes more stages.
Everything in this file is about one lane; `_pool.py` maps it over many.
"""

import dataclasses
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Real

from .._arrays import computed_once, select
from ..flows import AbstractFlow
from ..solvers import AbstractStepper, select_state, Step
from ..stops import AbstractStop
from . import _status as status
from ._landing import (
    clip_to_end,
    crossings_of,
    gaps_of,
    is_searched,
    last_clocks_of,
    nearer_end,
    seen_by,
)


class Problem(eqx.Module):
    """What all lanes share: the flow, how a step is made, and when to give up."""

    flow: AbstractFlow
    stepper: AbstractStepper
    controller: diffrax.AbstractStepSizeController
    max_steps: Int[Array, ""]
    first_step: Float[Array, ""] | None  # None: the controller chooses
    pauses: bool = eqx.field(static=True, default=False)
    """Whether lanes wait before their end until they are kept, to go on from there."""


class Start(eqx.Module):
    """What one member brings to a lane."""

    state: PyTree
    args: PyTree
    stops: tuple[AbstractStop, ...]


class Lane(eqx.Module):
    """One initialization in flight, or many with leading axes `lanes`."""

    past: Real[Array, "*lanes"]  # on the flow's clock before `clock` was last reset
    clock: Real[Array, "*lanes"]
    next_clock: Real[Array, "*lanes"]
    state: PyTree
    stepper_state: PyTree
    controller_state: PyTree
    args: PyTree
    stops: tuple[AbstractStop, ...]
    seen: dict[str, Float[Array, "*lanes"]]  # by stop conditions, at the state
    num_steps: Int[Array, "*lanes"]
    num_accepted: Int[Array, "*lanes"]
    blocked: Bool[Array, "*lanes"]  # a step from here ended in no number
    landing: Bool[Array, "*lanes"]  # on the way to its end, which its stops have changed
    status: Int[Array, "*lanes"]

    @property
    def is_live(self) -> Bool[Array, "*lanes"]:
        return self.status == status.RUNNING

    @property
    def waits(self) -> Bool[Array, "*lanes"]:
        """Whether it waits before its end until it is kept."""
        return self.status == status.PAUSED

    @property
    def has_ended(self) -> Bool[Array, "*lanes"]:
        return ~self.is_live & ~self.waits


class Attempt(eqx.Module):
    """The step that was just tried, from which values inside it are read."""

    start: Real[Array, ""]
    end: Real[Array, ""]
    dense_info: PyTree
    accepted: Bool[Array, ""]
    arrival: Real[Array, ""]  # where the path ends: before `end` if a member landed

    def interpolate(self, stepper: AbstractStepper, clock: Real[Array, ""]) -> PyTree:
        """The state at a clock inside the step, by its dense output."""
        return stepper.interpolation(self.start, self.end, self.dense_info).evaluate(clock)


def start(problem: Problem, member: Start) -> Lane:
    """A lane before its first step; done already if a stop condition holds there."""
    flow, stepper = problem.flow, problem.stepper
    state, args = member.state, member.args
    terms = flow.terms(args)
    dtype = jnp.result_type(*jax.tree_util.tree_leaves(state))
    clock = jnp.zeros((), dtype)
    velocity = flow.vector_field(clock, state, args)
    shown = flow.snapshot(clock, state, velocity, args)
    stops = tuple(stop.begin(shown) for stop in member.stops)
    last_clock = jnp.min(last_clocks_of(flow, stops, args, dtype), initial=jnp.inf)
    # No controller is told where the member ends: diffrax's constant steps would become a
    # little shorter, to fill the time, and those of a longer run would be other steps.
    next_clock, controller_state = problem.controller.init(
        terms,
        clock,
        jnp.full_like(clock, jnp.inf),
        state,
        problem.first_step,
        args,
        lambda terms, t0, y0, args: terms.vf(t0, y0, args),
        stepper.error_order(terms),
    )
    is_clipped = next_clock > last_clock
    next_clock = jnp.minimum(next_clock, last_clock).astype(dtype)
    code = jnp.where(
        _all_finite(velocity),
        _first_reached(gaps_of(stops, shown, dtype) >= 0),
        status.NON_FINITE,
    )
    return Lane(
        past=jnp.zeros_like(clock),
        clock=clock,
        next_clock=next_clock,
        state=state,
        stepper_state=stepper.init(terms, clock, next_clock, state, args),
        controller_state=_as_arrays(controller_state),
        args=args,
        stops=stops,
        seen=seen_by(stops, shown, dtype),
        num_steps=jnp.zeros((), jnp.int32),
        num_accepted=jnp.zeros((), jnp.int32),
        blocked=jnp.zeros((), bool),
        landing=jnp.asarray(is_clipped | (code != status.RUNNING)),
        status=code,
    )


def attempt(problem: Problem, lane: Lane) -> tuple[Lane, Attempt]:
    """Try one step; accept it, reject it, or land on an exact stop condition.

    The order of operations is that of diffrax's own loop. A lane that is done stays as
    it is. A step that is made one evaluation at a time may need several attempts.

    Where lanes are kept, one stays as it is before the first attempt that ends it or that
    would be another without its stop conditions: from there it can go on with later ones.
    """
    terms = problem.flow.terms(lane.args)
    step = problem.stepper.attempt(
        terms, lane.clock, lane.next_clock, lane.state, lane.args, lane.stepper_state
    )
    judged = judge(problem, lane, step)
    landed = land(problem, lane, step, judged)
    advanced, is_free = settle(problem, lane, step, judged, landed)
    live = lane.is_live
    if problem.pauses:
        pauses = computed_once(live & ~lane.landing & ~is_free)
        code = jnp.where(pauses, status.PAUSED, lane.status).astype(lane.status.dtype)
        again = problem.stepper.again(lane.stepper_state)
        stepper_state = select_state(pauses, again, lane.stepper_state)
        lane = dataclasses.replace(lane, status=code, stepper_state=stepper_state)
        live = computed_once(live & ~pauses)
    tried = Attempt(
        start=lane.clock,
        end=lane.next_clock,
        dense_info=step.dense_info,
        accepted=landed.accepted & live,
        arrival=landed.clock,
    )
    return select_state(live, advanced, lane), tried


class Judged(NamedTuple):
    """What the controller says of a step."""

    kept: Bool[Array, ""]  # its error is small enough
    finite: Bool[Array, ""]  # its end is a number, and so is the field on the way
    proposal: Real[Array, ""]  # the clock that the controller wants to step to next
    controller_state: PyTree
    failed: Bool[Array, ""]  # no step is short enough


def judge(problem: Problem, lane: Lane, step: Step) -> Judged:
    """Whether the error of a step is small enough, and how long the next should be."""
    unknown = jax.tree_util.tree_map(jnp.isnan, step.error)
    error = jax.tree_util.tree_map(
        lambda nan, e: jnp.where(nan, jnp.inf, e), unknown, step.error
    )
    kept, _, proposal, _, controller_state, result = problem.controller.adapt_step_size(
        lane.clock,
        lane.next_clock,
        lane.state,
        step.candidate,
        lane.args,
        error,
        step.error_order,
        lane.controller_state,
    )
    return Judged(
        kept=jnp.asarray(kept) & step.ready,
        finite=_all_finite(step.candidate) & ~_any(unknown),
        proposal=jnp.asarray(proposal),
        controller_state=_as_arrays(controller_state),
        failed=_failed(result),
    )


class Landed(NamedTuple):
    """Where a step leaves the member, given its stop conditions."""

    accepted: Bool[Array, ""]
    state: PyTree
    clock: Real[Array, ""]  # the lane's own again, where the step was not accepted
    seen: dict[str, Float[Array, ""]]  # by stop conditions at the end of the step
    reached: Bool[Array, " stops"]
    retried: Bool[Array, ""]  # to be tried again as far as `crossing`
    crossing: Real[Array, ""]
    last_clock: Real[Array, ""]  # where the member ends at the latest, infinity if unknown


def land(problem: Problem, lane: Lane, step: Step, judged: Judged) -> Landed:
    """Find out which conditions a step meets, and where inside it if they are exact."""
    flow, stepper = problem.flow, problem.stepper
    dtype, begin, end = lane.clock.dtype, lane.clock, lane.next_clock
    dense = stepper.interpolation(begin, end, step.dense_info)
    velocity = dense.derivative(end)
    shown = flow.snapshot(lane.past + end, step.candidate, velocity, lane.args)
    gaps = gaps_of(lane.stops, shown, dtype)
    last_clocks = last_clocks_of(flow, lane.stops, lane.args, dtype)
    usable = judged.kept & judged.finite
    passed = usable & ((gaps >= 0) | (end >= last_clocks))
    if stepper.divisible and any(is_searched(flow, s, lane.args) for s in lane.stops):
        crossings = crossings_of(flow, lane, dense, passed)
        crossing = jnp.min(crossings)
        crossed = crossing < end
        # A crossing well inside the step is reached by a step of its own, of full
        # accuracy; one next to either end of the step is read off the dense output. So is
        # one that rounding cannot tell from the start: a step there would lead nowhere.
        depth = jnp.minimum(crossing - begin, end - crossing)
        leads_on = _differ(dense.evaluate(crossing), lane.state)
        retried = crossed & (depth > _NEAR * (end - begin)) & leads_on
        inside = crossed & ~retried
        reached = jnp.where(inside, crossings == crossing, passed)
        arrival = jnp.where(inside, crossing, end)
        state = select(inside, dense.evaluate(arrival), step.candidate)
    else:  # no dense output is read, so that none is computed
        crossing, arrival, state, reached = end, end, step.candidate, passed
        retried = jnp.zeros((), bool)
    if stepper.divisible and flow.repeatable:
        nearer = nearer_end(lane, gaps, passed)
        retried |= nearer < jnp.minimum(crossing, arrival)
        crossing = jnp.minimum(crossing, nearer)
    retried = computed_once(retried)
    accepted = computed_once(usable & ~retried)
    return Landed(
        accepted=accepted,
        state=select(accepted, state, lane.state),
        clock=jnp.where(accepted, arrival, begin),
        seen=seen_by(lane.stops, shown, dtype),
        reached=reached & accepted,
        retried=retried,
        crossing=crossing,
        last_clock=jnp.min(last_clocks, initial=jnp.inf),
    )


def settle(
    problem: Problem, lane: Lane, step: Step, judged: Judged, landed: Landed
) -> tuple[Lane, Bool[Array, ""]]:
    """The lane before its next attempt: the next step's length, and whether it is done.

    And whether it is free: not done, and the same if its stop conditions were later ones.
    """
    dtype, clock = lane.clock.dtype, landed.clock
    stepper_state = step.settle(landed.accepted)
    next_clock, by_stops = _next_clock(problem, lane, step, judged, landed, stepper_state)
    # A step of a few units in the last place of the clock leads nowhere. Not `<=`: a next
    # clock that is NaN is no progress either.
    least = 8 * jnp.finfo(dtype).eps * jnp.abs(clock)
    stuck = ~(next_clock - clock > least)
    # Where no clock is known at which to end, the clock starts again with every step: a
    # deep network moves slowly at first, and a large clock would round short steps away.
    reset = jnp.isinf(landed.last_clock)
    num_steps = lane.num_steps + step.ready.astype(jnp.int32)
    spent = problem.stepper.steps_spent(stepper_state, num_steps)
    # Up to a wall of no numbers steps become ever shorter, and grow again where they were
    # accepted, without end. The member stands at it once they lead nowhere.
    moved = landed.accepted & _differ(landed.state, lane.state)
    blocked = ~moved & (lane.blocked | (step.ready & ~judged.finite))
    advanced = Lane(
        past=lane.past + jnp.where(reset, clock, 0.0),
        clock=jnp.where(reset, 0.0, clock),
        next_clock=jnp.where(reset, next_clock - clock, next_clock),
        state=landed.state,
        stepper_state=stepper_state,
        controller_state=select(
            landed.retried | ~step.ready, lane.controller_state, judged.controller_state
        ),
        args=lane.args,
        stops=lane.stops,
        seen=select(landed.accepted, landed.seen, lane.seen),
        num_steps=num_steps,
        num_accepted=lane.num_accepted + landed.accepted.astype(jnp.int32),
        blocked=blocked,
        landing=lane.landing | by_stops,
        status=_first_that_holds(
            (jnp.any(landed.reached), _first_reached(landed.reached)),
            (judged.kept & ~judged.finite, status.NON_FINITE),
            (judged.kept & _failed(step.result), status.SOLVER_FAILED),
            (step.ready & judged.failed, status.STEP_TOO_SMALL),
            (blocked & landed.accepted, status.NON_FINITE),
            (_rests(problem, lane, stepper_state), status.RESTS_AT_KINK),
            (stuck & ~judged.finite, status.NON_FINITE),
            (stuck, status.STEP_TOO_SMALL),
            (step.ready & (spent >= problem.max_steps), status.MAX_STEPS),
        ),
    )
    return advanced, ~by_stops & advanced.is_live


def _next_clock(problem, lane, step, judged, landed, stepper_state):
    """Where the next step should end, and whether that is due to stop conditions."""
    proposal = judged.proposal
    longest = problem.stepper.longest_step(stepper_state)
    if longest is not None:
        proposal = jnp.minimum(proposal, landed.clock + longest)
    clipped = clip_to_end(landed.clock, proposal, landed.last_clock, judged.kept)
    next_clock = jnp.where(landed.retried, landed.crossing, clipped)
    by_stops = landed.retried | (clipped != proposal)
    next_clock = jnp.where(step.ready, next_clock.astype(lane.clock.dtype), lane.next_clock)
    return next_clock, step.ready & by_stops


_NEAR = 1e-4
"""Share of the step, from either end, within which its dense output is taken to be as good
as the state at that end. Chosen."""


def _rests(problem, lane, stepper_state) -> Bool[Array, ""]:
    """Whether a member that is to come to rest has, as far as it can."""
    rests = problem.stepper.rests(stepper_state)
    if rests is None or not any(stop.at_rest for stop in lane.stops):
        return jnp.zeros((), bool)
    return rests


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


def _any(tree) -> Bool[Array, ""]:
    """Whether anything holds in a tree that may be empty."""
    leaves = [jnp.any(leaf) for leaf in jax.tree_util.tree_leaves(tree)]
    return jnp.any(jnp.stack(leaves)) if leaves else jnp.zeros((), bool)


def _differ(new, old) -> Bool[Array, ""]:
    """Whether two states differ by more than the rounding of their largest entries."""

    def one(a, b):
        rounding = 4 * jnp.finfo(a.dtype).eps * jnp.max(jnp.abs(b), initial=0.0)
        return jnp.any(jnp.abs(a - b) > rounding)

    leaves = jax.tree_util.tree_leaves(jax.tree_util.tree_map(one, new, old))
    return jnp.any(jnp.stack(leaves))


def _as_arrays(tree):
    """Python numbers in a controller's state become arrays, to be carried."""
    return jax.tree_util.tree_map(jnp.asarray, tree)
