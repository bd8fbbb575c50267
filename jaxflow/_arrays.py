"""Small functions of arrays that every folder needs, each written once."""

import dataclasses
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
    """`new` where the condition holds, else `old`, leaf by leaf.

    A leaf that is in both is what it is: programs stay short.
    """

    def one(a, b):
        return a if a is b else jnp.where(condition, a, b)

    return jax.tree_util.tree_map(one, new, old)


def computed_once(condition: Any) -> Any:
    """The same condition, which XLA computes once for all that depend on it.

    It would compute it anew in every kernel that selects by it, with all the comparisons
    that led to it: only what is expensive, as an exponential, is worth keeping to it. That
    would double the size of the programs, and half as much again the time to compile them.
    """
    return jnp.exp(condition.astype(jnp.float32)) > 2


def ratio(number: Any, divisor: Any) -> Any:
    """`number / divisor` where the divisor is positive, and `number` itself elsewhere.

    Safe to differentiate: the division that is not taken divides by one.
    """
    return number / jnp.where(divisor > 0, divisor, 1.0)


def with_parts(module: Value, **parts: Any) -> Value:
    """A module with other parts, of whatever type, for which nothing is checked anew."""
    other = object.__new__(type(module))
    for field in dataclasses.fields(module):  # pyright: ignore[reportArgumentType]
        value = parts.get(field.name, getattr(module, field.name))
        object.__setattr__(other, field.name, value)
    return other


def on_device(array: Any, dtype: Any = None) -> Any:
    """A copy of a NumPy array as an array of JAX; arrays of JAX are taken as they are.

    `jnp.asarray` does the same by a program for every shape, which JAX then keeps.
    """
    if isinstance(array, jax.Array):
        return jnp.asarray(array, dtype)
    return jax.device_put(np.array(array, dtype))


def is_key(array: Any) -> bool:
    """Whether it is an array of random keys, of which NumPy knows nothing."""
    if not isinstance(array, (jax.Array, jax.ShapeDtypeStruct)):
        return False  # a class may have a `dtype` that is none
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def words_of(array: Any) -> np.ndarray:
    """The array in NumPy; random keys as the integers that they are made of."""
    return np.asarray(jax.random.key_data(array) if is_key(array) else array)


def by_words(function: Callable[[np.ndarray], Any], array: Any) -> Any:
    """A function of a NumPy array, of an array of JAX or of one of random keys.

    Keys are given as the integers that they are made of, with one more axis, and are keys
    again. Other arrays of JAX are on the device again, NumPy's stay such.
    """
    found = function(words_of(array))
    if is_key(array):
        return jax.random.wrap_key_data(on_device(found), impl=jax.random.key_impl(array))
    return on_device(found) if isinstance(array, jax.Array) else found


def repeated(array: Any, num: int) -> Any:
    """The same array for each of so many members: in NumPy, but for random keys."""
    repeat = lambda words: np.broadcast_to(words, (num, *words.shape))
    return by_words(repeat, array if is_key(array) else np.asarray(array))


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


def as_float(array: Any, dtype: Any) -> Any:
    """The array, in this floating type if it holds whole numbers or booleans."""
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(dtype)
