"""One lane that goes on from where another run kept it.

It was kept before the first attempt that ended it, or that its stop conditions changed
(`attempt` in `_lane.py`). So it is the lane of every run with later ones.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from .._arrays import select
from ..stops import AbstractStop
from . import _status as status
from ._landing import clip_to_end, gaps_of, last_clocks_of, seen_by
from ._lane import Lane, Problem, Start, start


def go_on(problem: Problem, member: Start, kept: Lane) -> Lane:
    """A lane from where another run kept it, under the stop conditions of this one.

    It is what it would be if these conditions had been there from the start: none of them
    may have changed a step before, or else its status says that they have been passed. A
    lane that had made no step yet starts.

    Given `member`, at its start; `kept`, its lane, without `args`.
    """
    flow, fresh = problem.flow, start(problem, member)
    args, stops, dtype = fresh.args, fresh.stops, fresh.clock.dtype
    last_clock = jnp.min(last_clocks_of(flow, stops, args, dtype), initial=jnp.inf)
    # A clock that is to end somewhere is counted from the start.
    absolute = jnp.where(jnp.isinf(last_clock), 0.0, kept.past)
    clock, next_clock = kept.clock + absolute, kept.next_clock + absolute
    velocity = flow.vector_field(kept.past + kept.clock, kept.state, args)
    shown = flow.snapshot(kept.past + kept.clock, kept.state, velocity, args)
    passed = gaps_of(stops, shown, dtype) >= 0
    passed &= jnp.stack([_differs_from_all(stop, kept.stops) for stop in stops] or [passed])
    spent = problem.stepper.steps_spent(kept.stepper_state, kept.num_steps)
    lane = Lane(
        past=kept.past - absolute,
        clock=clock,
        next_clock=next_clock,
        state=kept.state,
        stepper_state=kept.stepper_state,
        controller_state=kept.controller_state,
        args=args,
        stops=stops,
        seen={**seen_by(stops, shown, dtype), **_those_of(kept.seen, fresh.seen)},
        num_steps=kept.num_steps,
        num_accepted=kept.num_accepted,
        blocked=kept.blocked,
        landing=jnp.zeros((), bool),
        status=jnp.where(
            jnp.any(passed)
            | (clip_to_end(clock, next_clock, last_clock, True) != next_clock)
            | (spent >= problem.max_steps),
            status.PASSED,
            status.RUNNING,
        ).astype(jnp.int32),
    )
    return select(kept.num_steps > 0, lane, fresh)


def _differs_from_all(stop: AbstractStop, others: Any) -> Bool[Array, ""]:
    """Whether a condition is none of others, whose thresholds are numbers."""
    differs = [jnp.ones((), bool)]
    structure = jax.tree_util.tree_structure(stop)
    for other in others:
        if jax.tree_util.tree_structure(other) == structure:
            leaves = map(jax.tree_util.tree_leaves, (stop, other))
            unequal = [jnp.asarray(a != b) for a, b in zip(*leaves)]
            differs.append(jnp.any(jnp.stack([jnp.zeros((), bool), *unequal])))
    return jnp.all(jnp.stack(differs))


def _those_of(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name in wanted}
