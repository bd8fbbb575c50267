"""What a caller gives for a temperature, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_items, check_numbers, check_positive, shown
from ..errors import InputError
from ..flows import OverTime, Stages

Temperature: TypeAlias = float | Sequence | Callable
"""A number, stages `[(time, temperature), …]`, or a function of time."""

_EXPECTED = (
    "a positive number, stages [(0, T), (time, T), …] with times that increase, or a "
    "function of time such as optax.exponential_decay(…)"
)


def check_temperature(
    given: Any, time: float
) -> float | tuple[tuple[float, float], ...] | Callable:
    """The temperature of a run that lasts for a time, in its plain form.

    Raises:
        InputError: for what is none.
    """
    if callable(given):
        return _checked_function(given, time)
    several = isinstance(given, (list, tuple, np.ndarray, jax.Array))
    if not several or getattr(given, "ndim", 1) == 0:
        return check_positive("temperature", given)
    stages = check_items("temperature", given, _EXPECTED)
    numbers = check_numbers("temperature", stages, _EXPECTED, np.isfinite)
    if numbers.ndim != 2 or numbers.shape[1] != 2 or not len(numbers):
        raise InputError("temperature", shown(given), _EXPECTED)
    times, temperatures = numbers.T
    if times[0] != 0 or np.any(np.diff(times) <= 0):
        raise InputError("temperature", f"stages from {times.tolist()}", _EXPECTED)
    if np.any(temperatures < 0) or not np.any(temperatures):
        found = f"temperatures {temperatures.tolist()}"
        raise InputError("temperature", found, "none below zero, and one above")
    return tuple((float(t), float(value)) for t, value in numbers)


def _checked_function(given: Callable, time: float) -> Callable:
    try:
        shape: Any = jax.eval_shape(given, jax.ShapeDtypeStruct((), jnp.result_type(float)))
        is_number = isinstance(shape, jax.ShapeDtypeStruct) and shape.shape == ()
        moments = (0.0, time) if is_number else ()
        found = [np.asarray(jax.device_get(given(jnp.asarray(each)))) for each in moments]
    except Exception as error:  # whatever the caller's function raises
        told = f"{shown(given)}, which raises {type(error).__name__}: {error}"
        raise InputError("temperature", told, _EXPECTED) from error
    expected = "a number that is not negative"
    if not is_number or shape.dtype.kind not in "iuf":
        raise InputError("temperature", f"a function that gives {shape}", expected)
    for moment, number in zip(moments, found):
        if not 0 <= number < np.inf:
            told = f"a function that gives {number:g} at the time {moment:g}"
            raise InputError("temperature", told, expected)
    return given


def temperature_over_time(given: Any, dtype: Any) -> Stages | OverTime:
    """A checked temperature as a function that a program is made of."""
    if callable(given):
        return OverTime(given)
    stages = ((0.0, given),) if isinstance(given, float) else given
    times, temperatures = np.asarray(stages, dtype).T
    return Stages(jnp.asarray(times), jnp.asarray(temperatures))


def told_of(given: Any) -> Any:
    """What a result says of a temperature, as a number or in words."""
    if callable(given):
        return "a function of time"
    if isinstance(given, float):
        return given
    return ", ".join(f"{value:g} from {time:g}" for time, value in given)
