"""A function of one member for every row of an array, some rows side by side."""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

_WIDTH_ON_CPU = 32
_WIDTH = 1024


def map_rows(
    function: Callable, rows: np.ndarray, on_done: Callable[[int], None] | None = None
) -> Any:
    """What `function` gives for every row, in NumPy, with a leading axis.

    **Arguments:**

    - `function`: of one row; a pytree, such as `equinox.Partial`, whose arrays may differ
      from call to call without compiling again.
    - `rows`: (members, …).
    - `on_done`: called with the number of rows that are done, now and then.
    """
    on_cpu = jax.default_backend() == "cpu"
    width = _WIDTH_ON_CPU if on_cpu else _WIDTH
    starts = range(0, max(len(rows), 1), width)

    def part(start: int) -> Any:
        some = rows[start : start + width]
        # One shape for all, so that one program does; a row of ones where there is none.
        last = some[-1:] if len(some) else np.ones((1, *rows.shape[1:]), rows.dtype)
        filled = np.concatenate([some, np.repeat(last, width - len(some), axis=0)])
        values = _side_by_side(function, filled)
        return jax.tree_util.tree_map(lambda a: np.asarray(a)[: len(some)], values)

    parts = []
    workers = (os.cpu_count() or 1) if on_cpu else 1
    with concurrent.futures.ThreadPoolExecutor(workers) as executor:
        # The first one alone: it compiles.
        parts.append(part(starts[0]))
        for values in executor.map(part, starts[1:]):
            parts.append(values)
            if on_done is not None:
                on_done(min(len(parts) * width, len(rows)))
    return jax.tree_util.tree_map(lambda *arrays: np.concatenate(arrays), *parts)


@eqx.filter_jit
def _side_by_side(function, rows):
    return jax.vmap(function)(rows)
