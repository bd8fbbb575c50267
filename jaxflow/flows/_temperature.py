"""Temperatures of a noise: a number, stages, or any function of time.

They are not callable: what is callable in the terms of a flow is one of its fields.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..solvers import form_of


class Stages(eqx.Module):
    """`T(t)` that is constant between times, which are data of a program.

    Arguments:
        times: from when on each temperature holds, increasing from zero.
        temperatures: not negative.
    """

    times: Float[Array, " stages"]
    temperatures: Float[Array, " stages"]

    def at(self, time: Real[Array, ""]) -> Float[Array, ""]:
        begun = jnp.sum(time >= self.times)
        return self.temperatures[begun - 1]


class OverTime(eqx.Module):
    """`T(t)` by a function that JAX can trace, such as a schedule of optax.

    Functions that are made alike, with the same numbers, share a program.
    """

    form: "_Form" = eqx.field(static=True)

    def __init__(self, function: Callable):
        self.form = _Form(function)

    def at(self, time: Real[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(self.form.function(time))


class _Form:
    """A function, equal to others that are made in one way."""

    def __init__(self, function: Callable):
        self.function: Any = function
        self._key = form_of(function)

    def __eq__(self, other: object) -> bool:
        return type(other) is _Form and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)
