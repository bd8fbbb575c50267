"""A pool: lanes side by side on one device, advanced together by compiled calls."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .lane import attempt, Lane, Problem, Start, start
from .recording import record_attempt, record_start, Recorder, Recording


class Pool(eqx.Module):
    """Lanes with a leading axis, and what they record (`None` if nothing)."""

    lanes: Lane
    recordings: Recording | None


@eqx.filter_jit
def open_pool(
    problem: Problem,
    recorder: Recorder | None,
    members: Start,
    recordings: Recording | None,
) -> Pool:
    """A pool whose lanes hold these members, before their first step."""
    lanes = jax.vmap(lambda member: start(problem, member))(members)
    if recorder is not None and recordings is not None:
        recordings = record_start(problem, recorder, lanes, recordings)
    return Pool(lanes, recordings)


@eqx.filter_jit
def advance(
    problem: Problem, recorder: Recorder | None, pool: Pool, num_attempts: Int[Array, ""]
) -> Pool:
    """Try up to `num_attempts` steps in every lane that is live."""

    def goes_on(carry):
        count, pool = carry
        return (count < num_attempts) & jnp.any(pool.lanes.is_live)

    def try_once(carry):
        count, pool = carry
        lanes, attempts = jax.vmap(lambda lane: attempt(problem, lane))(pool.lanes)
        recordings = pool.recordings
        if recorder is not None and recordings is not None:
            recordings = record_attempt(problem, recorder, lanes, attempts, recordings)
        return count + 1, Pool(lanes, recordings)

    count = jnp.zeros_like(num_attempts)
    return jax.lax.while_loop(goes_on, try_once, (count, pool))[1]


def default_width(num: int) -> int:
    """How many lanes to advance together.

    On a CPU the lanes' intermediate arrays should stay in its cache; on an accelerator
    the more the better. Members are divided evenly, so that no batch is much smaller.
    """
    most = 64 if jax.default_backend() == "cpu" else 4096
    batches = -(-num // most)
    return -(-num // batches)
