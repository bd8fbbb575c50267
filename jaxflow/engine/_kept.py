"""Lanes that are kept for members to go on from, as bytes: one row for each member.

A lane is kept before the first attempt that ends it, or that its stop conditions change:
from there it goes on under later ones as if these had been there from the start. What
members bring along themselves, such as their data, is not kept.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ._pool import Pool, whole, without_own


def to_rows(pool: Pool) -> np.ndarray:
    """The lanes of a pool and their recordings, in NumPy, as bytes (num, …)."""
    leaves = [np.asarray(x) for x in jax.tree_util.tree_leaves(without_own(pool))]
    return np.concatenate([_bytes_of(leaf) for leaf in leaves], axis=1)


def from_rows(rows: np.ndarray, shapes: PyTree) -> Pool | None:
    """The lanes that were kept, in NumPy; `None` if they are of another form.

    Given `rows`, what `to_rows` gave; `shapes`, a pool of that run, of any width.
    """
    wanted, structure = jax.tree_util.tree_flatten(without_own(shapes))
    if rows.shape[1] != num_bytes(shapes):
        return None
    leaves, place = [], 0
    for leaf in wanted:
        size, dtype = _size(leaf), np.dtype(leaf.dtype)
        part = np.ascontiguousarray(rows[:, place : place + size])
        shape = (len(rows), *leaf.shape[1:])
        leaves.append(part.view(dtype).reshape(shape) if size else np.zeros(shape, dtype))
        place += size
    return structure.unflatten(leaves)


def num_bytes(shapes: PyTree) -> int:
    """How many bytes a member is kept in, given a pool."""
    return sum(map(_size, jax.tree_util.tree_leaves(without_own(shapes))))


def put_back(pool: Pool, places: np.ndarray, rows: np.ndarray) -> Pool:
    """A pool in NumPy, with kept lanes again at some of its places."""
    if not len(places):
        return pool
    some = jax.tree_util.tree_map(lambda leaf: leaf[places], pool)
    kept = from_rows(rows, pool)
    assert kept is not None

    def replaced(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        old = old.copy()
        old[places] = new
        return old

    return jax.tree_util.tree_map(replaced, pool, whole(kept, some))


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


def _size(leaf: Any) -> int:
    return math.prod(leaf.shape[1:]) * np.dtype(leaf.dtype).itemsize


def _bytes_of(leaf: np.ndarray) -> np.ndarray:
    size = _size(leaf)
    if not leaf.size:
        return np.zeros((len(leaf), size), np.uint8)
    return np.ascontiguousarray(leaf).reshape(len(leaf), -1).view(np.uint8)
