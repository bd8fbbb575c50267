"""Whether a module is one network, and not an ensemble of them."""

from typing import Any

import equinox as eqx
import jax

from .._arrays import by_structure
from .._checks import shown
from ..errors import InputError
from ._parameters import check_module

_MOST_TRIED = 8
"""Lengths of vectors that a module is called on to find out which it accepts. Chosen."""


def check_one(network: Any, argument: str = "network") -> None:
    """One network: an Equinox module with parameters, and not an ensemble.

    **Raises:** `InputError`.
    """
    check_module(network, argument)
    arrays = jax.tree_util.tree_leaves(eqx.filter(network, eqx.is_array))
    if not any(map(eqx.is_inexact_array, arrays)):
        raise InputError(argument, "a module without arrays", "a module with parameters")
    lengths = {array.shape[0] if array.ndim else None for array in arrays}
    if len(lengths) == 1 and None not in lengths and _is_stacked(network):
        raise InputError(
            argument,
            f"an ensemble of {lengths.pop()} networks",
            "one network; for a function of one network, "
            "equinox.filter_vmap(function)(ensemble) gives the values of all",
        )


@by_structure
def _is_stacked(network: Any) -> bool:
    """Whether a module whose arrays share a leading axis is an ensemble.

    It is asked itself: one network can be called on a sample, an ensemble as a whole
    cannot, but each member. False for a module of which nobody knows what a sample is.
    """
    one = jax.tree_util.tree_map(
        lambda leaf: (
            jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) if _is_shape(leaf) else leaf
        ),
        network,
    )
    arrays = list(filter(_is_shape, jax.tree_util.tree_leaves(network)))
    return not _accepts_any(network, arrays) and _accepts_any(one, arrays)


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _accepts_any(network: Any, arrays: list[Any]) -> bool:
    """Whether the network can be called on a sample, of a shape that it may have."""
    dtype = arrays[0].dtype
    try:
        declared = declared_shape(network)
    except Exception:  # whatever a property of the user's module raises
        declared = None
    if declared is not None:
        return accepts(network, declared, dtype)
    lengths = sorted({length for array in arrays for length in array.shape})
    return any(accepts(network, (length,), dtype) for length in lengths[:_MOST_TRIED])


def declared_shape(network: Any) -> tuple[int, ...] | None:
    """The shape of a sample that a module names: `input_shape`, or Equinox's `in_size`."""
    declared = getattr(network, "input_shape", None)
    if declared is not None:
        return tuple(declared)
    size = getattr(network, "in_size", getattr(network, "in_features", None))
    if size is not None:
        return () if size == "scalar" else (int(size),)
    return None


def accepts(network: Any, shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether the network can be called on a sample of this shape."""
    return refusal(network, shape, dtype) is None


def refusal(network: Any, shape: tuple[int, ...], dtype: Any) -> str | None:
    """Why the network cannot be called on a sample of this shape; `None` if it can."""
    try:
        found = eqx.filter_eval_shape(network, jax.ShapeDtypeStruct(shape, dtype))
    except Exception as error:  # whatever the user's module raises on a wrong shape
        return f"{type(error).__name__}: {error}"
    is_array = isinstance(found, jax.ShapeDtypeStruct) and found.ndim <= 1
    return None if is_array else f"it gives {shown(found)}, not a vector or a scalar"
