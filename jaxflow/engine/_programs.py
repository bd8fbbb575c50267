"""The compiled programs of a pool, for one width on one device.

They are compiled ahead, in the thread that drives the run, because workers are threads:
JAX's settings (double precision, say) can belong to a thread, and a worker must compute
with those of its caller. Programs are kept, so that nothing is compiled again when only
numbers change.
"""

import functools
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from .._compiled import check_process, LastUsed, settings
from .._decompositions import lower
from ._lane import Problem
from ._observer import AbstractObserver
from ._pool import advance, fill, Members, Outcome, outcome, Pool, refill
from ._schedule import Device


class Programs(NamedTuple):
    """Compiled `fill`, `advance` and `refill`, with all that is the same for every call."""

    width: int
    device: Device
    fill: Callable[..., Pool]  # of (members, present)
    advance: Callable[
        ..., tuple[Pool, Any]
    ]  # of (pool, num_attempts, enough): see `advance`
    refill: Callable[..., Pool]  # of (pool, fresh, source); the pool is donated
    put: Callable[..., Any]  # arrays onto the device
    outcome: Callable[..., Outcome]  # of (pool, rows), in NumPy
    shapes: PyTree  # of a pool
    seconds: float  # that compilation took


class _Compiled(NamedTuple):
    fill: Callable
    advance: Callable
    refill: Callable
    shapes: PyTree
    seconds: float


_fills: LastUsed[Callable] = LastUsed(32)
"""Programs that fill pools with members that go on from another run."""

_kept: LastUsed[_Compiled] = LastUsed(32)
"""Sets of programs, of about 7 MB each for small networks. Chosen: a run has one set for
each width, of which it uses up to three."""


def compile_programs(
    problem: Problem,
    observer: AbstractObserver | None,
    members: Members,
    device: Device,
) -> Programs:
    """Programs for pools as wide as `members`, of which only shapes and structure count."""
    check_process()
    shared, structure = eqx.partition((problem, observer), eqx.is_array)
    width = len(jax.tree_util.tree_leaves(members.starts)[0])
    key = _key_of(problem, observer, members, device)
    starting = members._replace(kept=None)
    make = functools.partial(_compile, shared, structure, starting, width, device)
    compiled = _kept.get(key, make)
    fill = compiled.fill
    if members.kept is not None:
        make = functools.partial(_compile_fill, shared, structure, members, width, device)
        fill = _fills.get(key_of((problem, observer, members), device), make)
    put = lambda tree: jax.device_put(tree, device)
    shared = put(shared)
    # Small arguments stay NumPy arrays: a compiled call takes them to its device faster
    # than `device_put` does.
    whole = lambda number: np.asarray(number, np.int32)

    def advance(pool, num_attempts, enough):
        return compiled.advance(shared, pool, whole(num_attempts), whole(enough))

    return Programs(
        width=width,
        device=device,
        fill=lambda members, present: fill(shared, members, present),
        advance=advance,
        refill=lambda pool, fresh, source: compiled.refill(pool, fresh, source),
        put=put,
        outcome=functools.partial(outcome, problem.stepper.cost),
        shapes=compiled.shapes,
        seconds=compiled.seconds,
    )


def is_compiled(
    problem: Problem, observer: AbstractObserver | None, members: Members, device: Device
) -> bool:
    """Whether programs for pools as wide as `members` are there already."""
    return _key_of(problem, observer, members, device) in _kept


def _key_of(problem, observer, members: Members, device: Device) -> Hashable:
    # The same programs run members that go on and those that start.
    return key_of((problem, observer, members._replace(kept=None)), device)


def forget_programs() -> None:
    """Forget every compiled program."""
    _kept.clear()
    _fills.clear()


def _compile_fill(shared, structure, members, width, device) -> Callable:
    """The program that fills a pool."""
    return _lowered_fill(shared, structure, members, width, device)[0].compile()


def _lowered_fill(shared, structure, members, width, device):
    """The program that fills a pool, still to be compiled, and what it gives."""
    shapes_of = functools.partial(_shapes_of, device=device)

    def fill_lanes(shared, members, present):
        problem, observer = eqx.combine(shared, structure)
        return fill(problem, observer, members, present)

    arguments = shapes_of((shared, members, np.zeros(width, bool)))
    lowered = lower(fill_lanes, *arguments)
    return lowered, shapes_of(lowered.out_info)


def _shapes_of(tree: PyTree, device: Device) -> PyTree:
    sharding = jax.sharding.SingleDeviceSharding(device)

    def shape_of(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree_util.tree_map(shape_of, tree)


def _compile(shared, structure, members, width, device) -> _Compiled:
    begun = time.perf_counter()

    def advance_lanes(shared, pool, num_attempts, enough):
        problem, observer = eqx.combine(shared, structure)
        return advance(problem, observer, pool, num_attempts, enough)

    filled, pool = _lowered_fill(shared, structure, members, width, device)
    shapes_of = functools.partial(_shapes_of, device=device)
    numbers = shapes_of(shared)
    whole = shapes_of(np.zeros((), np.int32))
    advanced = lower(advance_lanes, numbers, pool, whole, whole, donate=(1,))
    source = shapes_of(np.zeros(width, np.int32))
    refilled = lower(refill, pool, pool, source, donate=(0,))
    return _Compiled(
        filled.compile(),
        advanced.compile(),
        refilled.compile(),
        pool,
        time.perf_counter() - begun,
    )


def key_of(tree: PyTree, *devices: Device) -> Hashable:
    """Equal for calls that the same programs serve."""

    def describe(leaf):
        # The type as well: 1, 1.0 and True are equal, and compute different things.
        return (leaf.shape, str(leaf.dtype)) if eqx.is_array(leaf) else (type(leaf), leaf)

    leaves, structure = jax.tree_util.tree_flatten(tree)
    return structure, tuple(describe(leaf) for leaf in leaves), devices, settings()
