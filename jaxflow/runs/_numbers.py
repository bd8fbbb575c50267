"""Numbers and keys that callers give: one for all members, or one for each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_key, check_numbers
from ..errors import InputError


def number_or_one_each(argument: str, values: Any, num: int | None) -> np.ndarray:
    """Finite numbers, in double precision: one for all members, or one for each."""
    numbers = check_numbers(argument, values)
    if numbers.shape not in ([()] if num is None else [(), (num,)]):
        each = "" if num is None else f", or one for each of {num}"
        raise InputError(argument, f"shape {numbers.shape}", f"a number{each}")
    return numbers


def key_words(key: Any) -> np.ndarray:
    """The numbers of a checked key, which can be compared, pickled and stored."""
    check_key("key", key)
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        # Raw numbers do not say of which implementation they are.
        raise InputError(
            "key", f"an array of {key.dtype}", "a random key, such as jax.random.key(0)"
        )
    usual = jax.random.key_impl(jax.random.key(0))
    if jax.random.key_impl(key) != usual:
        found = f"a key of the implementation {jax.random.key_impl(key)}"
        raise InputError("key", found, f"one of JAX's usual implementation, {usual}")
    return np.asarray(jax.random.key_data(key))


def of_rows(values: Any, rows: np.ndarray) -> np.ndarray:
    """The values of these members, of one number for all or one number for each."""
    values = np.asarray(values)
    if not values.ndim:
        return np.full(len(rows), values)
    if not len(values):  # a run of no members, of which only shapes are asked for
        return np.zeros((len(rows), *values.shape[1:]), values.dtype)
    return values[rows]
