"""Members that cannot go on, as stop conditions hold already where they would begin."""

import jax
import jax.numpy as jnp
import numpy as np

from .._arrays import with_parts
from .._compiled import compiled
from . import _status as status
from ._checkpoint import from_bytes
from ._driver import Source
from ._kept import rows_to_go_on_from
from ._lane import Problem
from ._pool import fill, Members, Pool

_LEAST, _PIECE = 8, 256
"""Members are looked at in pieces of at least and at most so many. Chosen."""


def find_passed(problem: Problem, source: Source, indices: np.ndarray) -> np.ndarray:
    """Those of these members that have passed a stop condition, before any is run."""
    found = [np.zeros(0, np.int64)]
    size = min(_PIECE, max(_LEAST, 1 << max(0, len(indices) - 1).bit_length()))
    for first in range(0, len(indices), size):
        piece = indices[first : first + size]
        padded = piece[np.minimum(np.arange(size), len(piece) - 1)]
        members = source.draw(padded)
        kept = with_parts(members.kept, recordings=None)
        codes = _codes(problem, members._replace(recordings=None, kept=kept))
        found.append(piece[np.asarray(codes)[: len(piece)] == status.PASSED])
    return np.concatenate(found)


@compiled
def _codes(problem: Problem, members: Members) -> jax.Array:
    present = jnp.ones(len(members.kept.lanes.status), bool)
    return fill(problem, None, members, present).lanes.status


def in_flight_rows(
    problem: Problem, stored: bytes | None, shapes: Pool
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of members that were in flight, and their lanes as those are kept.

    Given `stored`, what a sink has saved; `shapes`, a pool of that run.
    """
    found = None if stored is None else from_bytes(stored, shapes)
    if found is None:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.uint8)
    return found.indices, rows_to_go_on_from(problem.stepper, found.pool)
