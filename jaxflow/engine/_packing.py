"""Arrays with a leading axis of members as one row of bytes for each member, and back."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt8


def pack(tree: PyTree) -> UInt8[Array, "num bytes"]:
    """One row for each member: the bytes of its part of every array, in their order."""
    return jnp.concatenate([_bytes_of(leaf) for leaf in _leaves(tree)], axis=1)


def unpack(rows: np.ndarray, shapes: PyTree) -> PyTree | None:
    """The arrays that were packed, in NumPy; `None` if they were of another form.

    Given `shapes`, a tree of that form with any number of members.
    """
    if rows.shape[1] != num_bytes(shapes):
        return None
    leaves, place = [], 0
    for leaf in _leaves(shapes):
        size, dtype = _size(leaf), np.dtype(leaf.dtype)
        part = np.ascontiguousarray(rows[:, place : place + size])
        shape = (len(rows), *leaf.shape[1:])
        leaves.append(part.view(dtype).reshape(shape) if size else np.zeros(shape, dtype))
        place += size
    return jax.tree_util.tree_structure(shapes).unflatten(leaves)


def num_bytes(shapes: PyTree) -> int:
    """How many bytes a member is packed in."""
    return sum(map(_size, _leaves(shapes)))


def _leaves(tree: PyTree) -> list[Any]:
    return jax.tree_util.tree_leaves(tree)


def _size(leaf: Any) -> int:
    return math.prod(leaf.shape[1:]) * np.dtype(leaf.dtype).itemsize


def _bytes_of(leaf: Array) -> Array:
    num, size = leaf.shape[0], _size(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
    if leaf.dtype == bool:
        return leaf.astype(jnp.uint8).reshape(num, size)
    return jax.lax.bitcast_convert_type(leaf, jnp.uint8).reshape(num, size)
