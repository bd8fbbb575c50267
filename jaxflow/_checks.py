"""What callers give, checked: numbers, keys, types and choices, each in one place.

Every check gives what it was given in a plain form, or raises one `InputError` that names
the argument. Truth values, strings and masked arrays are no numbers, though NumPy and
`float` would take them for some.
"""

import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from .errors import InputError

_LONGEST = 100
"""Characters of a value in a message. Chosen."""

MOST_COUNTED = 2**31 - 1
"""Steps, sizes and samples are counted in 32 bits."""


NOT_TRACED = (
    "values: runs are not traced. Call it outside of jax.jit, jax.vmap and jax.grad, for "
    "many members with an ensemble and a scale of shape (num,); what can be differentiated "
    "is jaxflow.loss"
)
"""What to do about a traced value, for the message of an error."""


def shown(value: Any) -> str:
    """What a message says of a value, whatever it is."""
    if is_traced(value):
        return "a traced value, as inside of jax.jit, jax.vmap or jax.grad"
    if isinstance(value, np.ma.MaskedArray):
        return f"a masked array of shape {value.shape}"
    if isinstance(value, int) and abs(value) > 10**40:
        return "a number with more than 40 digits"  # Python refuses to write some
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever the caller's object raises
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 2] + " …"


def is_traced(value: Any) -> bool:
    """Whether the value is not known yet: inside of `jax.jit`, `jax.grad` or `jax.vmap`."""
    return isinstance(value, jax.core.Tracer)  # pyright: ignore


def check_precision(argument: str, dtype: Any) -> Any:
    """A floating type of parameters that JAX can compute with as it is set."""
    if np.dtype(dtype).itemsize > jnp.result_type(float).itemsize:
        raise InputError(
            argument,
            f"parameters of {dtype} where JAX is set to 32 bits",
            'a call of jax.config.update("jax_enable_x64", True) before, or parameters '
            "of float32",
        )
    return dtype


def _real(value: Any) -> float | None:
    """One real number as a float; `None` for all else, and for what no float can hold."""
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or is_traced(value):
        return None
    if not isinstance(value, (numbers.Real, np.number)):
        dtype = getattr(value, "dtype", None)
        if dtype is None or getattr(value, "shape", None) != ():
            return None
        if not jnp.issubdtype(dtype, np.number) or np.ma.is_masked(value):
            return None
    if jnp.iscomplexobj(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def check_number(
    argument: str,
    value: Any,
    expected: str = "a number",
    fits: Callable[[float], bool] = np.isfinite,
) -> float:
    """A real number for which `fits` holds; one that is finite, if nothing else is said."""
    number = _real(value)
    if number is None or not fits(number):
        found = shown(value) if number is None else f"{number:g}"
        raise InputError(argument, found, expected)
    return number


def check_positive(argument: str, value: Any) -> float:
    """A positive number."""
    return check_number(argument, value, "a positive number", lambda x: 0 < x < np.inf)


def check_not_negative(argument: str, value: Any) -> float:
    """A number that is zero or more."""
    return check_number(argument, value, "a number >= 0", lambda x: 0 <= x < np.inf)


def check_share(argument: str, value: Any) -> float:
    """A number between 0 and 1, neither of which is one."""
    return check_number(argument, value, "a number between 0 and 1", lambda x: 0 < x < 1)


def check_whole(
    argument: str, value: Any, *, least: int = 1, most: int = MOST_COUNTED
) -> int:
    """A whole number from `least` to `most`."""
    whole = _whole(value)
    if whole is None or not least <= whole <= most:
        power = (most + 1).bit_length() - 1
        largest = f"2**{power} - 1" if most + 1 == 2**power and power > 9 else str(most)
        expected = f"a whole number from {least} to {largest}"
        raise InputError(argument, shown(value), expected)
    return whole


def is_whole(value: Any) -> bool:
    """Whether a value is one whole number."""
    return _whole(value) is not None


def _whole(value: Any) -> int | None:
    """One whole number; `None` for all else."""
    no_number = isinstance(value, (bool, np.timedelta64))
    if isinstance(value, (int, np.integer)) and not no_number:
        return int(value)  # which may be longer than a float can hold
    number = _real(value)
    if number is None or not np.isfinite(number) or number != int(number):
        return None
    exact = np.asarray(value)
    return int(exact) if exact.dtype.kind in "iu" else int(number)


def check_sizes(argument: str, sizes: Any, *, least: int) -> tuple[int, ...]:
    """At least so many positive whole numbers."""
    words = {1: "one or more", 2: "at least two"}.get(least, f"at least {least}")
    expected = f"{words} positive whole numbers"
    if isinstance(sizes, (str, bytes, dict, set, frozenset)):
        raise InputError(argument, shown(sizes), expected)
    try:
        found = [_whole(size) for size in sizes]
    except TypeError as error:
        raise InputError(argument, shown(sizes), expected) from error
    known = tuple(s for s in found if s is not None and 1 <= s <= MOST_COUNTED)
    if len(known) < max(least, len(found)):
        raise InputError(argument, shown(sizes), expected)
    return known


def check_numbers(
    argument: str,
    values: Any,
    expected: str = "finite numbers",
    fits: Callable[[Any], Any] = np.isfinite,
    *,
    kept: bool = False,
) -> np.ndarray:
    """Real numbers of any shape for all of which `fits` holds.

    In double precision, or of the type that they have if that is `kept`.
    """
    kind = "numbers" if expected == "finite numbers" else expected
    if np.ma.is_masked(values) or is_traced(values):
        raise InputError(argument, shown(values), kind)
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever the caller's object raises
        raise InputError(argument, shown(values), kind) from error
    is_number = jnp.issubdtype(array.dtype, np.number) and array.dtype.kind != "m"
    if not is_number or jnp.iscomplexobj(array) or _has_truth(values):
        raise InputError(argument, shown(values), kind)
    array = array if kept else array.astype(np.float64)
    wrong = array[~np.asarray(fits(array), bool)]
    if wrong.size:
        several = array.ndim and not np.isnan(wrong[0])
        found = f"{wrong[0]:g}" + (" among them" if several else "")
        if not np.isfinite(wrong[0]) and not np.isneginf(wrong[0]):
            found = "NaN or infinity"
        raise InputError(argument, found, expected)
    return array


def _has_truth(values: Any) -> bool:
    """Whether a list of numbers has `True` or `False` in it, which NumPy takes for 1, 0."""
    if isinstance(values, (list, tuple)):
        return any(isinstance(v, (bool, np.bool_)) or _has_truth(v) for v in values)
    return False


def check_rows(argument: str, rows: Any, num: int) -> np.ndarray:
    """Places in an array of so many rows, (rows,), each from 0 to the last."""
    expected = f"whole numbers from 0 to {num - 1}"
    array = check_numbers(argument, rows, expected, kept=True)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InputError(argument, shown(rows), expected)
    array = array.astype(np.int64)
    if array.size and not 0 <= array.min() <= array.max() < num:
        raise InputError(argument, shown(rows), expected)
    return array


def check_key(argument: str, key: Any) -> PRNGKeyArray:
    """One random key, typed or made of raw numbers as `jax.random.PRNGKey` makes them."""
    expected = "one random key, such as jax.random.key(0)"
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype is None or shape is None or np.ma.isMaskedArray(key):
        raise InputError(argument, shown(key), expected)
    typed = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if typed and shape:
        raise InputError(argument, f"an array of keys of shape {shape}", expected)
    if not typed and (dtype != np.uint32 or shape != _raw_shape()):
        raise InputError(argument, f"an array of {dtype} of shape {shape}", expected)
    return key


def _raw_shape() -> tuple[int, ...]:
    """The shape of a key that is made of raw numbers, in JAX's present implementation."""
    return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape


_FLOATS = ("float16", "bfloat16", "float32", "float64")


def check_dtype(argument: str, dtype: Any) -> Any:
    """A floating type of JAX; its default where `None` is given."""
    if dtype is None:
        return jnp.result_type(float)
    try:
        known = np.dtype(dtype).name
    except Exception as error:  # NumPy's errors are of several types
        found = shown(dtype)
        raise InputError(argument, found, "float32, float64 or another float") from error
    if known not in _FLOATS or isinstance(dtype, (int, bool)):
        raise InputError(argument, shown(dtype), f"one of {', '.join(_FLOATS)}")
    return np.dtype(dtype)


def check_flag(argument: str, value: Any, *, optional: bool = False) -> Any:
    """`True` or `False`; or `None`, where that may be left open."""
    if optional and value is None:
        return None
    if not isinstance(value, (bool, np.bool_)):
        expected = "True, False or None" if optional else "True or False"
        raise InputError(argument, shown(value), expected)
    return bool(value)


def check_choice(argument: str, value: Any, choices: Sequence[str]) -> str:
    """One of these words."""
    if not isinstance(value, str) or value not in choices:
        words = ", ".join(f'"{choice}"' for choice in choices)
        raise InputError(argument, shown(value), f"one of {words}")
    return value


def check_items(argument: str, values: Any, expected: str) -> list[Any]:
    """The items of a list or tuple; not of a string or a dict, which have some too."""
    if isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable):
        raise InputError(argument, shown(values), expected)
    try:
        return list(values)
    except TypeError as error:  # arrays without an axis
        raise InputError(argument, shown(values), expected) from error
