"""The activation `σ(t) = max(t, αt)^p` outside of a network, in NumPy or JAX."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._checks import shown
from ..errors import InputError
from ..networks import LeakyReLU


def sigma_and_derivative(t: Any, slope: float, power: int) -> tuple[Any, Any]:
    """`σ(t)` and `σ'(t)` for an array `t` of either kind."""
    numpy = np if isinstance(t, np.ndarray) else jnp
    positive = t > 0
    bent = numpy.where(positive, t, slope * t)
    own = numpy.where(positive, 1.0, slope)
    return bent**power, power * bent ** (power - 1) * own


def check_sharp(argument: str, activation: Any) -> LeakyReLU:
    """A `LeakyReLU` whose kink is not smoothed, or an `InputError`."""
    if not isinstance(activation, LeakyReLU) or activation.smoothing:
        raise InputError(argument, shown(activation), "a LeakyReLU without smoothing")
    return activation
