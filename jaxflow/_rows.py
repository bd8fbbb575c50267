"""A function of one member for every member, some side by side."""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ._compiled import as_here, compiled

_WIDTH_ON_CPU, _WIDTH = 32, 1024
"""Rows in one call, on CPUs and on accelerators. Chosen."""

_WIDTH_IN_TURN = 8
"""Rows in one call that takes one after another. Chosen."""

_TOGETHER = 64
"""Members that are traced side by side: all at once would need all their activations at
once. Chosen."""


def map_lanes(function: Callable, members: PyTree) -> PyTree:
    """`function` of every member, under a trace; leading axes are those of members."""
    return jax.lax.map(function, members, batch_size=_TOGETHER)


def map_rows(
    function: Callable,
    rows: PyTree,
    on_done: Callable[[int], None] | None = None,
    *,
    in_turn: bool = False,
) -> Any:
    """What `function` gives for every row, in NumPy, with a leading axis.

    Arguments:
        function: of one row; a pytree, such as `equinox.Partial`, whose arrays may differ
            from call to call without compiling again.
        rows: a NumPy array (members, …), or a pytree of such arrays.
        on_done: called with the number of rows that are done, now and then.
        in_turn: one row after another, for a function that needs the memory of one row.
    """
    on_cpu = jax.default_backend() == "cpu"
    width = _WIDTH_IN_TURN if in_turn else _WIDTH_ON_CPU if on_cpu else _WIDTH
    num = len(jax.tree_util.tree_leaves(rows)[0])
    starts = range(0, max(num, 1), width)
    apply = _one_by_one if in_turn else _side_by_side
    as_set = as_here()

    def part(start: int) -> Any:
        count = min(num - start, width)
        filled = jax.tree_util.tree_map(lambda a: _filled(a[start:][:width], width), rows)
        with as_set():
            values = apply(function, filled)
            return jax.tree_util.tree_map(lambda a: np.asarray(a)[:count], values)

    parts = []
    workers = (os.cpu_count() or 1) if on_cpu and not in_turn else 1
    with concurrent.futures.ThreadPoolExecutor(workers) as executor:
        # The first one alone: it compiles.
        parts.append(part(starts[0]))
        for values in executor.map(part, starts[1:]):
            parts.append(values)
            if on_done is not None:
                on_done(min(len(parts) * width, num))
    return jax.tree_util.tree_map(lambda *arrays: np.concatenate(arrays), *parts)


def _filled(some: np.ndarray, width: int) -> np.ndarray:
    """One shape for all, so that one program does: the last row again, or rows of ones."""
    last = some[-1:] if len(some) else np.ones((1, *some.shape[1:]), some.dtype)
    return np.concatenate([some, np.repeat(last, width - len(some), axis=0)])


@compiled
def _side_by_side(function, rows):
    return jax.vmap(function)(rows)


@compiled
def _one_by_one(function, rows):
    return jax.lax.map(function, rows)
