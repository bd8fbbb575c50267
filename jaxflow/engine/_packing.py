"""Arrays with a leading axis of members as one row of bytes for each member, and back."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt8


def pack(tree: PyTree) -> UInt8[Array, "num bytes"]:
    """One row for each member: the bytes of its part of every array, type by type."""
    leaves = _leaves(tree)
    groups = [[leaves[place] for place in group] for group in _of_one_type(leaves)]
    return jnp.concatenate([_bytes_of(group) for group in groups], axis=1)


def unpack(rows: np.ndarray, shapes: PyTree) -> PyTree | None:
    """The arrays that were packed, in NumPy; `None` if they were of another form.

    Given `shapes`, a tree of that form with any number of members.
    """
    if rows.shape[1] != num_bytes(shapes):
        return None
    leaves, begin = _leaves(shapes), 0
    found: dict[int, np.ndarray] = {}
    for place in itertools.chain(*_of_one_type(leaves)):
        leaf, end = leaves[place], begin + _size(leaves[place])
        part, dtype = np.ascontiguousarray(rows[:, begin:end]), np.dtype(leaf.dtype)
        shape = (len(rows), *leaf.shape[1:])
        is_empty = begin == end
        found[place] = (
            np.zeros(shape, dtype) if is_empty else part.view(dtype).reshape(shape)
        )
        begin = end
    return jax.tree_util.tree_structure(shapes).unflatten([found[i] for i in sorted(found)])


def num_bytes(shapes: PyTree) -> int:
    """How many bytes a member is packed in."""
    return sum(map(_size, _leaves(shapes)))


def _leaves(tree: PyTree) -> list[Any]:
    return jax.tree_util.tree_leaves(tree)


def _size(leaf: Any) -> int:
    return math.prod(leaf.shape[1:]) * np.dtype(leaf.dtype).itemsize


def _of_one_type(leaves: list[Any]) -> list[list[int]]:
    """The places of the arrays of each type, which become bytes together."""
    groups: dict[str, list[int]] = {}
    for place, leaf in enumerate(leaves):
        groups.setdefault(np.dtype(leaf.dtype).name, []).append(place)
    return list(groups.values())


def _bytes_of(leaves: list[Array]) -> Array:
    num = leaves[0].shape[0]
    rows = jnp.concatenate(
        [leaf.reshape(num, math.prod(leaf.shape[1:])) for leaf in leaves], axis=1
    )
    if jnp.issubdtype(rows.dtype, jnp.complexfloating):
        rows = jnp.stack([rows.real, rows.imag], axis=-1)
    if rows.dtype == bool:
        return rows.astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(rows, jnp.uint8).reshape(
        num, sum(map(_size, leaves))
    )
