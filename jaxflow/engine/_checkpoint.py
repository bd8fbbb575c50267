"""Lanes in flight as bytes, and back: whole and unaltered, or not at all."""

import hashlib
import io
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from ._pool import Pool

_MAGIC = b"jaxflow lanes 1\n"
"""The first bytes of every file of lanes; another number for another form."""


class InFlight(NamedTuple):
    """Members on their way: who they are, and their lanes with a leading axis."""

    indices: np.ndarray
    pool: Pool  # NumPy arrays


def to_bytes(in_flight: InFlight) -> bytes:
    """Everything that it takes to go on exactly, with a checksum."""
    leaves = jax.tree_util.tree_leaves(in_flight.pool)
    arrays: dict[str, Any] = {f"leaf_{i}": np.asarray(x) for i, x in enumerate(leaves)}
    file = io.BytesIO()
    np.savez(file, indices=in_flight.indices, **arrays)
    content = file.getvalue()
    return _MAGIC + hashlib.sha256(content).digest() + content


def from_bytes(stored: bytes, shapes: PyTree) -> InFlight | None:
    """The lanes that were stored; `None` if the bytes are not what was written.

    **Arguments:**

    - `stored`: what `to_bytes` gave, as read back.
    - `shapes`: a pool of this run, of any width.
    """
    head = len(_MAGIC)
    content = stored[head + 32 :]
    checksum = hashlib.sha256(content).digest()
    if stored[:head] != _MAGIC or stored[head : head + 32] != checksum:
        return None
    expected, structure = jax.tree_util.tree_flatten(shapes)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        indices = arrays["indices"]
        leaves = [arrays[f"leaf_{i}"] for i in range(len(arrays.files) - 1)]
    fits = len(leaves) == len(expected) and all(
        leaf.dtype == wanted.dtype and leaf.shape == (len(indices), *wanted.shape[1:])
        for leaf, wanted in zip(leaves, expected)
    )
    return InFlight(indices, structure.unflatten(leaves)) if fits else None
