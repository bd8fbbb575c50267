"""Whether a module is one network, and not an ensemble of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._arrays import by_structure
from .._samples import output_of, sample_of, shape_of
from .._trained import parameters_of, trained_on
from ..errors import InputError
from ._parameters import check_module

_MOST_TRIED = 8
"""Lengths of vectors that a module is called on to find out which it accepts. Chosen."""


def check_one(network: Any, argument: str = "network") -> None:
    """One network: an Equinox module with parameters, and not an ensemble.

    Raises:
        InputError: if it does not fit.
    """
    check_module(network, argument)
    arrays = jax.tree_util.tree_leaves(eqx.filter(network, eqx.is_array))
    if not jax.tree_util.tree_leaves(parameters_of(network)):
        held = "a module without arrays" + (" to train" if arrays else "")
        raise InputError(argument, held, "a module with parameters")
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
    floats = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    dtype = (floats or arrays)[0].dtype
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
    """Whether the network gives a vector or a scalar for a sample of this shape."""
    # A stack of networks may well give a stack of vectors.
    output, reason = output_of(network, jax.ShapeDtypeStruct(shape, dtype))
    return reason is None and all(
        leaf.ndim <= 1 for leaf in jax.tree_util.tree_leaves(output)
    )


def check_accepts(network: Any, inputs: PyTree) -> None:
    """Whether the network can be called on these samples.

    Raises:
        InputError: if it does not fit.
    """
    _, reason = output_of(network, sample_of(inputs))
    if reason is not None:
        shape = shape_of(inputs)
        found = f"samples of shape {shape}, on which the network fails: {reason}"
        raise InputError("inputs", found, "samples (n, *input_shape)")


def seen_on_sample(network: Any, sample: PyTree) -> Any:
    """The network, where what no gradient reaches is not trained.

    Arguments:
        sample: in shapes and types.
    """
    return trained_on(network, _call, sample)


def seen(network: Any) -> Any:
    """The same, where nobody says what a sample is: one that the network accepts."""
    shape = _accepted(network)
    if shape is None:
        return network
    dtype = jax.tree_util.tree_leaves(parameters_of(network))[0].dtype
    return seen_on_sample(network, jax.ShapeDtypeStruct(shape, dtype))


def _call(network: Any, sample: PyTree) -> PyTree:
    return network(sample)


@by_structure
def _accepted(network: Any) -> tuple[int, ...] | None:
    """A shape of samples that the network can be called on."""
    try:
        declared = declared_shape(network)
    except Exception:  # whatever a property of the user's module raises
        declared = None
    if declared is not None:
        return declared
    arrays = list(filter(_is_shape, jax.tree_util.tree_leaves(network)))
    dtype = jax.tree_util.tree_leaves(parameters_of(network))[0].dtype
    lengths = sorted({length for array in arrays for length in array.shape})
    tried = ((length,) for length in lengths[:_MOST_TRIED])
    return next((shape for shape in tried if accepts(network, shape, dtype)), None)
