"""An ensemble through pools: batch after batch, until every member is done."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from . import status
from .lane import Problem, Start
from .pool import advance, default_width, open_pool
from .recording import Recorder, Recording

_ATTEMPTS_PER_CALL = 32


class Progress(NamedTuple):
    """How far a run has come."""

    done: int
    total: int
    failed: int


class Outcome(NamedTuple):
    """Where every member ended, in NumPy arrays with a leading axis of members."""

    clock: np.ndarray
    state: PyTree
    status: np.ndarray
    num_steps: np.ndarray
    num_accepted: np.ndarray
    values: PyTree  # recorded, (num, points, …); None if nothing was


def run(
    problem: Problem,
    members: Start,
    *,
    recorder: Recorder | None = None,
    recordings: Recording | None = None,
    width: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run every member of an ensemble to its end.

    **Arguments:**

    - `problem`: what all members share.
    - `members`, `recordings`: with a leading axis of members.
    - `recorder`: what is recorded; needs `recordings`.
    - `width`: how many lanes advance together.
    - `on_progress`: called between compiled calls.
    """
    members, recordings = jax.device_get((members, recordings))
    total = len(jax.tree_util.tree_leaves(members.state)[0])
    width = default_width(total) if width is None else min(width, total)
    finished: list[Outcome] = []
    done = failed = 0
    on_progress(Progress(done, total, failed))
    for first in range(0, total, width):
        rows = np.arange(first, first + width)
        real = int(np.sum(rows < total))
        rows = np.minimum(rows, total - 1)  # the last batch is filled up with its last

        pool = open_pool(problem, recorder, *_rows((members, recordings), rows))
        while True:
            codes = np.asarray(pool.lanes.status)[:real]
            on_progress(
                Progress(
                    done + int(np.sum(codes != status.RUNNING)),
                    total,
                    failed + int(np.sum(codes < 0)),
                )
            )
            if np.all(codes != status.RUNNING):
                break
            pool = advance(problem, recorder, pool, jnp.asarray(_ATTEMPTS_PER_CALL))
        done, failed = done + real, failed + int(np.sum(codes < 0))
        finished.append(_rows(jax.device_get(_outcome(pool)), slice(real)))
    return jax.tree_util.tree_map(lambda *parts: np.concatenate(parts), *finished)


def _outcome(pool) -> Outcome:
    lanes = pool.lanes
    return Outcome(
        lanes.elapsed + lanes.clock,
        lanes.state,
        lanes.status,
        lanes.num_steps,
        lanes.num_accepted,
        None if pool.recordings is None else pool.recordings.values,
    )


def _rows(tree: PyTree, rows: Any) -> PyTree:
    return jax.tree_util.tree_map(lambda leaf: leaf[rows], tree)
