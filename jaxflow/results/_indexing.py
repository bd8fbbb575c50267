"""Which members an index means, and the rows of arrays that belong to them."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._arrays import by_words
from ..errors import InputError

Index = int | slice | np.ndarray
"""An index that has been checked: one member, or several by a slice or by their numbers."""

_EXPECTED = "a number, a slice, or an array of numbers or of booleans"


def check_index(index: Any, length: int, of: str) -> Index:
    """An index of the caller's, as NumPy understands it, or a sentence that says why not.

    Arguments:
        index: what stands between the brackets.
        length: how many members there are.
        of: what they are members of, for the message.

    Raises:
        InputError: if it does not fit.
    """
    if isinstance(index, slice):
        try:
            index.indices(length)
        except (TypeError, ValueError) as error:
            raise InputError("index", repr(index), "a slice of whole numbers") from error
        return index
    if isinstance(index, (bool, tuple, str)) or index is None or index is Ellipsis:
        raise InputError("index", repr(index), _EXPECTED)
    try:
        numbers = np.asarray(index)
    except Exception as error:  # whatever an array of somebody else's raises
        raise InputError("index", type(index).__name__, _EXPECTED) from error
    if isinstance(index, list) and not index:
        numbers = np.zeros(0, np.int64)
    if numbers.dtype.kind == "b" and numbers.ndim == 1:
        if len(numbers) != length:
            found = f"a mask of {len(numbers)}"
            raise InputError("index", found, f"one of {length}, the size of {of}")
        return np.flatnonzero(numbers)
    if numbers.dtype.kind not in "iu" or numbers.ndim > 1:
        raise InputError("index", repr(index), _EXPECTED)
    if outside := [int(n) for n in np.ravel(numbers) if not -length <= n < length]:
        expected = f"numbers from {-length} to {length - 1}, the size of {of}"
        raise InputError("index", str(outside[0]), expected)
    numbers = numbers.astype(np.int64) % max(length, 1)
    return operator.index(numbers) if numbers.ndim == 0 else numbers


def pick(values: Any, index: Index, axis: int = 0) -> np.ndarray:
    """Some rows of an array along an axis; an array too when no axis is left."""
    return np.asarray(np.asarray(values)[(slice(None),) * axis + (index,)])


def pick_networks(networks: Any, index: Index) -> Any:
    """Some of stacked networks; arrays of JAX stay such."""

    def rows(leaf):
        if not eqx.is_array(leaf):
            return leaf
        # By NumPy: JAX would compile a program for every size.
        return by_words(lambda array: pick(array, index), leaf)

    return jax.tree_util.tree_map(rows, networks)


@dataclasses.dataclass(frozen=True)
class Given:
    """Networks that are there already, in the place of a function that reads them."""

    networks: Any

    def __call__(self) -> Any:
        return self.networks

    def rows(self, index: Index) -> "Given":
        """The function that gives some of them."""
        return Given(pick_networks(self.networks, index))


@dataclasses.dataclass(frozen=True)
class _Picked:
    """Some of the networks that a function gives all together."""

    read: Callable[[], Any]
    index: Index

    def __call__(self) -> Any:
        return pick_networks(self.read(), self.index)


def rows_of(read: Callable[[], Any], index: Index) -> Callable[[], Any]:
    """A function that gives some of the networks that `read` gives.

    A function which can do that without reading all of them has a method `rows`.
    """
    own = getattr(read, "rows", None)
    return _Picked(read, index) if own is None else own(index)
