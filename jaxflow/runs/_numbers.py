"""Numbers and keys that callers give, checked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..errors import InputError


def check_number(argument: str, value: Any) -> float:
    """A number."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(argument, repr(value), "a number") from error


def check_positive(argument: str, value: Any) -> float:
    """A positive number."""
    number = check_number(argument, value)
    if not 0 < number < np.inf:
        raise InputError(argument, f"{number:g}", "a positive number")
    return number


def check_whole(argument: str, value: Any) -> int:
    """A whole number that is at least one."""
    try:
        whole = int(value)
        usable = whole == value and 1 <= whole < 2**31  # counted in int32
    except (TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        raise InputError(argument, repr(value), "a whole number from 1 to 2**31 - 1")
    return whole


def number_or_one_each(argument: str, values: Any, num: int | None) -> np.ndarray:
    """Finite numbers, in double precision: one for all members, or one for each."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(argument, repr(values), "a number") from error
    if numbers.shape not in ([()] if num is None else [(), (num,)]):
        each = "" if num is None else f", or one for each of {num}"
        raise InputError(argument, f"shape {numbers.shape}", f"a number{each}")
    if not np.all(np.isfinite(numbers)):
        raise InputError(argument, "NaN or infinity", "finite numbers")
    return numbers


def check_key(key: Any) -> PRNGKeyArray:
    """A random key, and not the raw numbers that older code uses."""
    is_array = isinstance(key, jax.Array)
    if not is_array or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.ndim:
        found = f"an array of {key.dtype}" if is_array else repr(key)
        raise InputError("key", found, "a random key, such as jax.random.key(0)")
    usual = jax.random.key_impl(jax.random.key(0))
    if jax.random.key_impl(key) != usual:
        found = f"a key of the implementation {jax.random.key_impl(key)}"
        raise InputError("key", found, f"one of JAX's usual implementation, {usual}")
    return key


def key_words(key: Any) -> np.ndarray:
    """The numbers of a checked key, which can be compared, pickled and stored."""
    return np.asarray(jax.random.key_data(check_key(key)))


def of_rows(values: Any, rows: np.ndarray) -> np.ndarray:
    """The values of these members, of one number for all or one number for each."""
    values = np.asarray(values)
    if not values.ndim:
        return np.full(len(rows), values)
    if not len(values):  # a run of no members, of which only shapes are asked for
        return np.zeros((len(rows), *values.shape[1:]), values.dtype)
    return values[rows]
