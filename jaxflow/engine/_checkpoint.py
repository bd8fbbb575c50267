"""Lanes in flight as bytes, and back: whole and unaltered, or not at all.

The bytes are a digest, the number of members, and the numbers in all arrays one after the
other. Shapes and types are those of the run that reads them, and are not in the file.
"""

import hashlib
import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from ._pool import Pool

_MAGIC = b"jaxflow lanes 4\n"
"""The first bytes of every file of lanes; another number for another form."""


class InFlight(NamedTuple):
    """Members on their way: who they are, and their lanes with a leading axis."""

    indices: np.ndarray
    pool: Pool  # NumPy arrays


def to_bytes(in_flight: InFlight) -> bytes:
    """Everything that it takes to go on exactly, with a checksum."""
    num = np.asarray(len(in_flight.indices), np.int64)
    arrays = [num, np.asarray(in_flight.indices, np.int64)]
    arrays += [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(in_flight.pool)]
    content = b"".join(array.tobytes() for array in arrays)
    return _MAGIC + hashlib.sha256(content).digest() + content


def from_bytes(stored: bytes, shapes: PyTree) -> InFlight | None:
    """The lanes that were stored; `None` if the bytes are not what was written.

    Arguments:
        stored: what `to_bytes` gave, as read back.
        shapes: a pool of this run, of any width.
    """
    head = len(_MAGIC)
    content = stored[head + 32 :]
    checksum = hashlib.sha256(content).digest()
    if stored[:head] != _MAGIC or stored[head : head + 32] != checksum or len(content) < 8:
        return None
    num = int.from_bytes(content[:8], "little", signed=True)
    wanted, structure = jax.tree_util.tree_flatten(shapes)
    forms = [((num,), np.dtype(np.int64))]
    forms += [((num, *each.shape[1:]), np.dtype(each.dtype)) for each in wanted]
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in forms]
    if num < 0 or len(content) != 8 + sum(sizes):
        return None
    arrays, place = [], 8
    for (shape, dtype), size in zip(forms, sizes):
        part = np.frombuffer(content[place : place + size], dtype)
        arrays.append(part.reshape(shape).copy())
        place += size
    indices, *leaves = arrays
    return InFlight(indices, structure.unflatten(leaves))
