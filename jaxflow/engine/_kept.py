"""Lanes that are kept for members to go on from, as bytes: one row for each member.

A lane is kept before the first attempt that ends it, or that its stop conditions change:
from there it goes on under later ones as if these had been there from the start. What
members bring along themselves, such as their data, is not kept.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._arrays import with_parts
from .._compiled import compiled
from ..solvers import AbstractStepper
from ._packing import num_bytes, pack, unpack
from ._pool import Pool, without_own


def from_rows(rows: np.ndarray, shapes: PyTree) -> Pool | None:
    """The lanes that were kept, in NumPy; `None` if they are of another form.

    Given `rows`, as an `Outcome` has them; `shapes`, a pool of that run, of any width.
    """
    return unpack(rows, without_own(shapes))


def num_bytes_kept(shapes: PyTree) -> int:
    """How many bytes a member is kept in, given a pool."""
    return num_bytes(without_own(shapes))


def rows_to_go_on_from(stepper: AbstractStepper, pool: Pool) -> np.ndarray:
    """Of members in flight: as they are, or as they were before they began to land."""
    as_they_are = np.asarray(_packed(stepper, pool))
    landing = np.asarray(pool.lanes.landing)[:, None]
    return np.where(landing, np.asarray(pool.kept), as_they_are)


@compiled
def _packed(stepper: AbstractStepper, pool: Pool) -> jax.Array:
    again = jax.vmap(stepper.again)(pool.lanes.stepper_state)
    lanes = with_parts(pool.lanes, stepper_state=again)
    return pack(without_own(with_parts(pool, lanes=lanes)))


def with_rows(pool: Pool, shapes: PyTree) -> Pool:
    """Kept lanes whose recordings have as many points as those of another run, or fewer.

    Given `shapes`, a pool of that run.
    """

    def longer(leaf: np.ndarray, wanted: Any) -> np.ndarray:
        more = [(0, 0)] + [(0, m - n) for n, m in zip(leaf.shape[1:], wanted.shape[1:])]
        return np.pad(leaf, more)

    wanted = without_own(shapes).recordings
    recordings = jax.tree_util.tree_map(longer, pool.recordings, wanted)
    return dataclasses.replace(pool, recordings=recordings)
