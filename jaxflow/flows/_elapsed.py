"""The time that has elapsed, as a coordinate that is nearly straight and never overflows.

The rescaled time in units of `S` is kept as

    e = Z log(1 + s/(Z S)),    de/ds = e^(-e/Z) / S,    Z = 10⁴.

As long as `s` is less than thousands of units, `e` is `s/S` but for a share of `s/(Z S)`:
on a plateau, where time passes at a constant rate and nothing else moves, a step of any
length is exact. Later it is a logarithm: a member that goes to zero, or a loss that tends
to zero, may take a time of `e^1000` units.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

_STRAIGHT = 1e4
"""`Z`. Chosen, so that plateaus of thousands of units are straight. With `log(1 + s)` for
the time, and `s` up to 1e4, half of the steps of a network of order 7 followed the
curvature of the logarithm while nothing else moved."""


def rate_of_elapsed(
    log_rate: Float[Array, ""], elapsed: Float[Array, ""]
) -> Float[Array, ""]:
    """The derivative of `e` where `s/S` grows at the rate of this logarithm."""
    return jnp.exp(log_rate - elapsed / _STRAIGHT)


def rescaled_time(
    elapsed: Float[Array, ""], log_unit: Float[Array, ""]
) -> Float[Array, ""]:
    """`s`, from `e` and `log S`."""
    # Zero also where the unit overflows.
    begun = elapsed > 0
    units = jnp.where(begun, _STRAIGHT * jnp.expm1(elapsed / _STRAIGHT), 1.0)
    return jnp.where(begun, jnp.exp(log_unit) * units, 0.0)


def log_rescaled_time(
    elapsed: Float[Array, ""], log_unit: Float[Array, ""]
) -> Float[Array, ""]:
    """`log s`, also where `s` itself would overflow."""
    log = elapsed / _STRAIGHT
    return log_unit + math.log(_STRAIGHT) + log + jnp.log(-jnp.expm1(-log))


def size_of_elapsed(elapsed: Float[Array, ""]) -> Float[Array, ""]:
    """What an error of `e` is measured against, so that it is a share of `s`."""
    return jnp.minimum(jnp.abs(elapsed), _STRAIGHT)
