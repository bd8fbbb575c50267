"""Small functions of arrays that every folder needs, each written once."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

Value = TypeVar("Value")


def select(condition: Any, new: PyTree, old: PyTree) -> PyTree:
    """`new` where the condition holds, else `old`, leaf by leaf."""
    return jax.tree_util.tree_map(lambda a, b: jnp.where(condition, a, b), new, old)


def ratio(number: Any, divisor: Any) -> Any:
    """`number / divisor` where the divisor is positive, and `number` itself elsewhere.

    Safe to differentiate: the division that is not taken divides by one.
    """
    return number / jnp.where(divisor > 0, divisor, 1.0)


def on_device(array: Any, dtype: Any = None) -> Any:
    """A copy of a NumPy array as an array of JAX; arrays of JAX are taken as they are.

    `jnp.asarray` does the same by a program for every shape, which JAX then keeps.
    """
    if isinstance(array, jax.Array):
        return jnp.asarray(array, dtype)
    return jax.device_put(np.array(array, dtype))


def is_known(tree: PyTree) -> bool:
    """Whether all arrays have values: not under a trace, and no mere shapes."""
    return not any(
        isinstance(leaf, (jax.core.Tracer, jax.ShapeDtypeStruct))  # pyright: ignore
        for leaf in jax.tree_util.tree_leaves(tree)
    )


def by_structure(function: Callable[..., Value]) -> Callable[..., Value]:
    """The same function of pytrees, for one that depends on no values of arrays.

    It is called with shapes and types in their place, and what it gives is kept: a call
    under abstract values takes a millisecond.
    """

    def of_shapes(treedef: Any, leaves: tuple[Any, ...]) -> Value:
        return function(*treedef.unflatten(leaves))

    kept = functools.lru_cache(maxsize=256)(of_shapes)

    def call(*trees: PyTree) -> Value:
        leaves, treedef = jax.tree_util.tree_flatten(trees)
        shapes = tuple(
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf
            for leaf in leaves
        )
        try:
            hash((treedef, shapes))
        except TypeError:  # something in a module cannot be hashed
            return of_shapes(treedef, shapes)
        return kept(treedef, shapes)

    return call


def is_single(dtype: Any) -> bool:
    """Whether a floating type is single precision."""
    return jnp.dtype(dtype).itemsize == 4


def by_precision(dtype: Any, *, double: Value, single: Value) -> Value:
    """The default that belongs to a floating type."""
    return single if is_single(dtype) else double
