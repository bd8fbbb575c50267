"""Where a step passes a stop condition, and where it should have ended."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Real

from ..flows import AbstractFlow, Snapshot
from ..stops import AbstractStop
from ._crossing import first_crossing


def gaps_of(stops, shown: Snapshot, dtype) -> Float[Array, " stops"]:
    """Of the stop conditions at a state."""
    gaps = [jnp.asarray(stop.gap(shown)).astype(dtype) for stop in stops]
    return jnp.stack(gaps) if gaps else jnp.zeros(0, dtype)


def seen_by(stops, shown: Snapshot, dtype) -> dict[str, Float[Array, ""]]:
    """What conditions see at a state that have to know it at the end of the next step.

    Not their gaps: those change with the thresholds, with which a member may go on.
    """
    names = {
        name
        for stop in stops
        if stop.closeness() is not None
        for name in (stop.needs or shown.quantities)
    }
    return {name: jnp.asarray(shown[name]).astype(dtype) for name in sorted(names)}


def last_clocks_of(flow, stops, args, dtype) -> Float[Array, " stops"]:
    """Where the conditions end the member; infinity where only integration can tell."""
    found = [stop.clock(flow, args) for stop in stops]
    clocks = [jnp.asarray(jnp.inf if c is None else c).astype(dtype) for c in found]
    return jnp.stack(clocks) if clocks else jnp.zeros(0, dtype)


def is_searched(flow: AbstractFlow, stop: AbstractStop, args: PyTree) -> bool:
    """Whether the end has to be found inside a step."""
    return stop.exact and stop.clock(flow, args) is None


def crossings_of(flow, lane, dense, wanted) -> Float[Array, " stops"]:
    """Where each condition that is searched is met; infinity for the others."""

    def one(stop, wanted):
        if not is_searched(flow, stop, lane.args):
            return jnp.full_like(lane.clock, jnp.inf)

        def gap(clock):
            state = dense.evaluate(clock)
            # No exact condition reads the velocity; anything of its shape will do.
            shown_at = lane.past + clock
            return stop.gap(flow.snapshot(shown_at, state, state, lane.args))

        clock = first_crossing(gap, lane.clock, lane.next_clock, wanted)
        return jnp.where(wanted, clock, jnp.inf)

    found = [one(stop, wanted[i]) for i, stop in enumerate(lane.stops)]
    return jnp.stack(found) if found else jnp.zeros(0, lane.clock.dtype)


def nearer_end(lane, gaps, passed) -> Real[Array, ""]:
    """Where a step that went too far past a condition should end instead; infinity if none.

    There the gap would be half as large as it may be, were it linear. A step that ends
    before is a step on the way.
    """
    begin, length = lane.clock, lane.next_clock - lane.clock
    nearest = jnp.full_like(begin, jnp.inf)
    for i, stop in enumerate(lane.stops):
        if (closeness := stop.closeness()) is None:
            continue
        close = jnp.asarray(closeness).astype(gaps.dtype)
        before = jnp.asarray(stop.gap(Snapshot(None, lane.seen))).astype(gaps.dtype)
        after = gaps[i]
        share = (0.5 * close - before) / jnp.where(after > before, after - before, 1.0)
        clock = begin + jnp.clip(share, _LEAST_SHARE, 1.0).astype(begin.dtype) * length
        # A step that leads nowhere would be no step.
        leads_on = clock - begin > 64 * jnp.finfo(begin.dtype).eps * jnp.abs(clock)
        again = (
            passed[i] & (after > close) & (before < 0) & leads_on & (clock < begin + length)
        )
        nearest = jnp.where(again, jnp.minimum(nearest, clock), nearest)
    return nearest


_LEAST_SHARE = 1e-3
"""By what a step is made shorter at the most. Chosen: a gap is nearly linear in a step."""


def clip_to_end(clock, next_clock, last_clock, kept):
    """Step onto the last clock rather than past it or just short of it.

    diffrax's rule: a step that would end within 100 units in the last place of the end
    ends there; after a rejection, go half of the way.
    """
    floor = last_clock * (1 - 50 * jnp.finfo(clock.dtype).eps)
    clipped = jnp.where(kept, last_clock, clock + 0.5 * (last_clock - clock))
    return jnp.where(next_clock > floor, clipped, next_clock)
