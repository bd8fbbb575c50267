"""Samples: arrays, or pytrees of arrays, with a leading axis; what networks give for them.

A sample of several parts, a tuple or a dict, is one argument of the network.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ._arrays import on_device
from ._checks import is_traced, NOT_TRACED, shown
from .errors import InputError


def is_several(values: Any) -> bool:
    """Whether it is a pytree of arrays, and no array written as nested lists or tuples."""
    if isinstance(values, (Mapping, eqx.Module)):
        return True
    return isinstance(values, tuple) and any(
        eqx.is_array(value) or is_several(value) for value in values
    )


def as_arrays(argument: str, values: Any) -> PyTree:
    """Finite real arrays, in NumPy, of the types that they have.

    Raises:
        InputError: if it does not fit.
    """
    if not is_several(values):
        return _as_array(argument, values)
    paths, structure = jax.tree_util.tree_flatten_with_path(values)
    if not paths:
        raise InputError(argument, shown(values), "one array or more")
    arrays = [
        _as_array(f"{argument}{jax.tree_util.keystr(path)}", leaf) for path, leaf in paths
    ]
    return structure.unflatten(arrays)


def _as_array(argument: str, values: Any) -> np.ndarray:
    if is_traced(values):
        raise InputError(argument, shown(values), NOT_TRACED)
    if np.ma.is_masked(values):
        raise InputError(argument, shown(values), "an array")
    try:
        data = np.asarray(values)
    except Exception as error:
        raise InputError(argument, type(values).__name__, "an array") from error
    # NumPy sees the short floats of ml_dtypes, such as bfloat16, as kind "V".
    real = data.dtype.kind in "biuf" or jnp.issubdtype(data.dtype, jnp.floating)
    if not real:
        raise InputError(argument, f"an array of {data.dtype}", "real numbers")
    bad = int(np.size(data) - np.isfinite(data).sum())
    if bad:
        raise InputError(argument, f"{bad} values that are NaN or infinite", "finite data")
    held = jax.dtypes.canonicalize_dtype(data.dtype)
    if data.dtype.kind in "iu" and data.size and np.any(data.astype(held) != data):
        found, expected = f"{data.dtype} beyond {held}", f"whole numbers that {held} holds"
        raise InputError(argument, found, expected)
    return data


def num_samples(argument: str, arrays: PyTree) -> int:
    """The length of the leading axis that all arrays share.

    Raises:
        InputError: if there is none.
    """
    leaves = jax.tree_util.tree_leaves(arrays)
    lengths = {leaf.shape[0] if leaf.ndim else -1 for leaf in leaves}
    if len(lengths) != 1 or -1 in lengths:
        shapes = jax.tree_util.tree_map(lambda leaf: leaf.shape, arrays)
        found = "a number of shape ()" if len(leaves) == 1 else f"arrays of shapes {shapes}"
        raise InputError(argument, found, "(n, …), n >= 1, one leading axis of samples")
    if any(not leaf.size for leaf in leaves):
        found = f"empty data of shape {leaves[0].shape}"
        raise InputError(argument, found, "(n, …), n >= 1")
    return lengths.pop()


def as_samples(inputs: Any, dtype: Any, most: int | None = None) -> PyTree:
    """Samples that a caller gave, the first of them; floats in a type that is given."""
    known = all(isinstance(leaf, jax.Array) for leaf in jax.tree_util.tree_leaves(inputs))
    # A task's are JAX arrays, and checked once: they may be many.
    arrays = inputs if known else as_arrays("inputs", inputs)
    num_samples("inputs", arrays)

    def first(array):
        array = array[:most]
        return on_device(
            array, dtype if jnp.issubdtype(array.dtype, jnp.floating) else None
        )

    return jax.tree_util.tree_map(first, arrays)


def sample_of(inputs: PyTree) -> PyTree:
    """Shapes and types of one sample."""
    return jax.tree_util.tree_map(
        lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), inputs
    )


def shape_of(inputs: PyTree) -> Any:
    """The shape of a sample, or shapes in the form of its parts, for a message."""
    return jax.tree_util.tree_map(lambda array: array.shape[1:], inputs)


def output_of(network: Any, sample: PyTree) -> tuple[Any, str | None]:
    """What the network gives for a sample in shapes and types, and why it does not fit.

    Returns:
        The output, of any form, and `None`; or `None` and the reason.
    """
    try:
        found = eqx.filter_eval_shape(cast(Callable, network), sample)
    except Exception as error:  # whatever the caller's module raises
        return None, f"{_hint(network)}{type(error).__name__} on one sample: {error}"
    leaves = jax.tree_util.tree_leaves(found, is_leaf=_is_state)
    if any(map(_is_state, leaves)):
        return None, (
            "it gives an equinox.nn.State beside its output: gradient flow has no such "
            "state; keep it in the module, in inference mode"
        )
    is_float = lambda leaf: (
        isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.floating)
    )
    if not leaves or not all(map(is_float, leaves)):
        return None, f"its output for one sample is {shown(found)}, not floating numbers"
    return found, None


def _is_state(node: Any) -> bool:
    return isinstance(node, eqx.nn.State)


def _hint(network: Any) -> str:
    """What to say of a module that fails, and has what such modules stumble over."""
    is_module = lambda node: isinstance(node, eqx.Module)
    training, static = set(), set()
    below = [network]
    while below:
        node = below.pop()
        if getattr(node, "inference", None) is False:
            training.add(type(node).__name__)
        for field in dataclasses.fields(node):
            value = getattr(node, field.name, None)
            if field.metadata.get("static", False):
                static.update([f".{field.name}"] if eqx.is_array(value) else [])
            else:
                parts = jax.tree_util.tree_leaves(value, is_leaf=is_module)
                below.extend(filter(is_module, parts))
    if training:
        return (
            f"its {' and '.join(sorted(training))} in training mode needs a key or a "
            "state that changes, which a flow has not, see equinox.nn.inference_mode; "
        )
    if static:
        return (
            f"its static {' and '.join(sorted(static))} is an array: make it an ordinary "
            "field; integers, booleans and what `trainable=` leaves out are not trained; "
        )
    return ""
