"""A pool: lanes side by side on one device, advanced together by compiled calls."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree, UInt8

from .._arrays import select, with_parts
from ..solvers import is_scratch, Work
from . import _status as status
from ._going_on import go_on
from ._lane import Attempt, attempt, Lane, Problem, Start, start
from ._observer import AbstractObserver
from ._packing import pack


class Members(NamedTuple):
    """What several members bring to lanes, with a leading axis."""

    starts: Start
    recordings: Any  # before the start; None if nothing is recorded
    kept: Any = None  # a `Pool` without what they bring, where they are to go on from


class Pool(eqx.Module):
    """Lanes with a leading axis, and what they record (`None` if nothing).

    Where lanes are kept, the bytes of each before it began to land, (lanes, …).
    """

    lanes: Lane
    recordings: Any
    kept: UInt8[Array, "lanes bytes"] | None = None


class Outcome(NamedTuple):
    """Where members ended, in NumPy arrays with a leading axis of members."""

    clock: np.ndarray
    state: PyTree
    status: np.ndarray
    num_steps: np.ndarray
    num_accepted: np.ndarray
    work: Work
    values: PyTree  # recorded, (num, points, …); None if nothing was
    kept: np.ndarray | None = None  # bytes (num, …) to go on from; None if nothing was


def fill(
    problem: Problem,
    observer: AbstractObserver | None,
    members: Members,
    present: Bool[Array, " lanes"],
) -> Pool:
    """A pool whose lanes hold these members before their first step, where `present`.

    Or before the next, if they come from another run.
    """
    lanes = jax.vmap(lambda member: start(problem, member))(members.starts)
    recordings = members.recordings
    if observer is not None and recordings is not None:
        recordings = observer.start(problem, lanes, recordings)
    if members.kept is not None:
        goes_on = jax.vmap(lambda member, lane: go_on(problem, member, lane))
        kept = whole(members.kept, Pool(lanes, recordings))
        lanes = goes_on(members.starts, kept.lanes)
        began = kept.lanes.num_steps > 0
        recordings = jax.vmap(select)(began, kept.recordings, recordings)
    # Their first step may have been made shorter, and what ends at its start has no other.
    rows = pack(without_own(Pool(lanes, recordings))) if problem.pauses else None
    codes = jnp.where(present, lanes.status, status.NOBODY)
    return Pool(eqx.tree_at(lambda lanes: lanes.status, lanes, codes), recordings, rows)


def advance(
    problem: Problem,
    observer: AbstractObserver | None,
    pool: Pool,
    num_attempts: Int[Array, ""],
    enough: Int[Array, ""],
) -> tuple[Pool, Int[Array, ""]]:
    """Try up to `num_attempts` steps in every lane, until at most `enough` are live.

    Gives the number of attempts as well. Lanes that wait before their end are kept one by
    one, outside of the loop that tries steps: what they are kept in is large, and a loop
    would copy what goes round in it.
    """

    def goes_on(carry):
        count, pool = carry
        num_live = jnp.sum(pool.lanes.is_live, dtype=enough.dtype)
        return (count < num_attempts) & (num_live > enough)

    def try_once(carry):
        count, pool = carry
        lanes, attempts = _attempt_in_each(problem, pool.lanes)
        recordings = pool.recordings
        if observer is not None and recordings is not None:
            recordings = observer.follow(problem, pool.lanes, lanes, attempts, recordings)
        return count + 1, Pool(lanes, recordings)

    def until_one_waits(carry):
        count, pool = carry
        going = lambda carry: goes_on(carry) & ~jnp.any(carry[1].lanes.waits)
        first = count, with_parts(pool, kept=None)
        count, tried = jax.lax.while_loop(going, try_once, first)
        return count, _keep_one(with_parts(tried, kept=pool.kept))

    start_of_all = jnp.zeros_like(num_attempts), pool
    if not problem.pauses:
        count, pool = jax.lax.while_loop(goes_on, try_once, start_of_all)
        return pool, count
    going = lambda carry: goes_on(carry) | jnp.any(carry[1].lanes.waits)
    count, pool = jax.lax.while_loop(going, until_one_waits, start_of_all)
    return pool, count


def _keep_one(pool: Pool) -> Pool:
    """The pool with one of the lanes kept that wait for it, and on its way to its end."""
    lanes, place = pool.lanes, jnp.argmax(pool.lanes.waits)
    waits = lanes.waits[place]
    code = jnp.where(waits, status.RUNNING, lanes.status[place])
    set_off = eqx.tree_at(
        lambda lanes: (lanes.status, lanes.landing),
        lanes,
        (
            lanes.status.at[place].set(code),
            lanes.landing.at[place].set(lanes.landing[place] | waits),
        ),
    )
    # It is kept as one that runs, and has not begun to land.
    as_it_was = eqx.tree_at(lambda lanes: lanes.landing, set_off, lanes.landing)
    alone = jax.tree_util.tree_map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, place, 1),
        without_own(Pool(as_it_was, pool.recordings)),
    )
    kept = cast(Array, pool.kept)
    old = jax.lax.dynamic_slice_in_dim(kept, place, 1)
    row = jnp.where(waits, pack(alone), old)
    kept = jax.lax.dynamic_update_slice_in_dim(kept, row, place, 0)
    return Pool(set_off, pool.recordings, kept)


def _attempt_in_each(problem: Problem, lanes: Lane) -> tuple[Lane, Attempt]:
    """One attempt in every lane: all at once, or on a CPU one after another if large.

    A step reads and writes some dozens of vectors as large as the state, and in between
    arrays about as large as the data. Those of several lanes at once would not stay in a
    core's cache, and with arrays that large every lane is worth calls of its own.
    """

    def attempt_in_one(lanes, lane):
        among = problem.stepper.among(lane.is_live, lanes)
        return attempt(dataclasses.replace(problem, stepper=among), lane)

    at_once = jax.vmap(functools.partial(attempt_in_one, _LANES), axis_name=_LANES)
    if problem.stepper.is_light or not _are_large(problem, lanes):
        return at_once(lanes)

    def if_live(lane):
        # Only here: lanes side by side would compute both.
        alone = functools.partial(attempt_in_one, None)
        _, tried = eqx.filter_eval_shape(alone, lane)
        nothing = jax.tree_util.tree_map(lambda a: jnp.zeros(a.shape, a.dtype), tried)
        return jax.lax.cond(lane.is_live, alone, lambda lane: (lane, nothing), lane)

    def one_by_one(lanes):
        return jax.lax.map(if_live, lanes)

    return jax.lax.platform_dependent(lanes, cpu=one_by_one, default=at_once)


_LANES = "lanes"


def _are_large(problem: Problem, lanes: Lane) -> bool:
    """By the sizes of one lane, so that rounding does not depend on the pool's width."""
    bytes_of = lambda tree: [
        leaf.nbytes for leaf in jax.tree_util.tree_leaves(eqx.filter(tree, eqx.is_array))
    ]
    state = sum(bytes_of(lanes.state)) / lanes.status.size
    data = max(bytes_of(problem.flow), default=0)
    return state > _LARGEST_SMALL_STATE or data > _LARGEST_SMALL_DATA


_LARGEST_SMALL_STATE, _LARGEST_SMALL_DATA = 2**16, 2**19
"""In bytes; where one after another begins to be faster (benchmarks/scaling.py)."""


def refill(pool: Pool, fresh: Pool, source: Int[Array, " lanes"]) -> Pool:
    """The pool with lane `i` replaced by lane `source[i]` of another where that is >= 0."""

    def replaced(old, new):
        taken = new[jnp.maximum(source, 0)]
        chosen = (source >= 0).reshape(source.shape + (1,) * (old.ndim - 1))
        return jnp.where(chosen, taken, old)

    return jax.tree_util.tree_map(replaced, pool, fresh)


def outcome(cost: Callable[[PyTree, Any], Work], pool: Pool, rows: np.ndarray) -> Outcome:
    """Where the members in these lanes ended.

    Given the stepper's `cost`, a pool, and the numbers of its lanes.
    """
    lanes = pool.lanes
    values = None if pool.recordings is None else pool.recordings.recorded(rows)
    past, clock, *rest = take(
        (
            lanes.past,
            lanes.clock,
            lanes.state,
            lanes.status,
            lanes.num_steps,
            lanes.num_accepted,
            cost(lanes.stepper_state, np.asarray(lanes.num_steps)),
        ),
        rows,
    )
    return Outcome(past + clock, *rest, values=values, kept=take(pool.kept, rows))


def without_own(pool: Pool) -> Pool:
    """A pool without what its members bring along and do not change, or scratch."""
    recordings = pool.recordings
    if recordings is not None:
        recordings = _without(recordings, recordings.brought)
    lanes = _without(pool.lanes, ("args",))
    state = jax.tree_util.tree_map(
        lambda node: None if is_scratch(node) else node,
        lanes.stepper_state,
        is_leaf=is_scratch,
    )
    lanes = with_parts(lanes, stepper_state=state)
    return with_parts(pool, lanes=lanes, recordings=recordings, kept=None)


def whole(kept: Pool, brought: Pool) -> Pool:
    """A pool that was `without_own`, and what that left out from another."""
    recordings = kept.recordings
    if recordings is not None:
        parts = {name: getattr(brought.recordings, name) for name in recordings.brought}
        recordings = with_parts(recordings, **parts)
    state = jax.tree_util.tree_map(
        lambda own, node: own if is_scratch(own) else node,
        brought.lanes.stepper_state,
        kept.lanes.stepper_state,
        is_leaf=is_scratch,
    )
    lanes = with_parts(kept.lanes, args=brought.lanes.args, stepper_state=state)
    return with_parts(kept, lanes=lanes, recordings=recordings)


def _without(module: Any, names: tuple[str, ...]) -> Any:
    return with_parts(module, **dict.fromkeys(names))


def take(tree: PyTree, rows: Any) -> PyTree:
    """These rows of every array, copied to NumPy."""
    return jax.tree_util.tree_map(lambda leaf: np.array(np.asarray(leaf)[rows]), tree)


def join(trees: list[PyTree]) -> PyTree:
    """Trees of arrays, one after another along the leading axis."""
    return jax.tree_util.tree_map(lambda *leaves: np.concatenate(leaves), *trees)


def pad(tree: PyTree, width: int) -> PyTree:
    """As many rows as a pool has lanes: the last one is repeated."""
    (length,) = {len(leaf) for leaf in jax.tree_util.tree_leaves(tree)}
    rows = np.minimum(np.arange(width), length - 1)
    return take(tree, rows)
