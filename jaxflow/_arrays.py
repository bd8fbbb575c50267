"""Small functions of arrays that every folder needs, each written once."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
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


def is_single(dtype: Any) -> bool:
    """Whether a floating type is single precision."""
    return jnp.dtype(dtype).itemsize == 4


def by_precision(dtype: Any, *, double: Value, single: Value) -> Value:
    """The default that belongs to a floating type."""
    return single if is_single(dtype) else double
