"""Gradient flow with noise: overdamped Langevin dynamics.

    dw = -∇𝓛(w) dt + sqrt(2T) dB,

whose stationary density is proportional to `exp(-𝓛(w)/T)`, where that can be normalized.
"""

from typing import ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Real, UInt32

from ..networks import flatten
from ._cartesian import CartesianFlow
from ._randomized import AbstractRandomizedFlow, Randomized

Vector = Float[Array, " parameters"]


class LangevinFlow(AbstractRandomizedFlow):
    """The weights under gradient flow and noise of one temperature, in the time `t`.

    Steps have to be of constant size and none may be tried again: the path of the noise
    belongs to its steps.
    """

    without_noise: CartesianFlow  # of order `None`: plain weights and plain time
    temperature: Float[Array, ""]
    key_data: UInt32[Array, " words"]
    levy_area: type = eqx.field(static=True)  # what the solver needs of a Brownian path
    repeatable: ClassVar[bool] = False

    def vector_field(
        self, clock: Real[Array, ""], state: Vector, args: Randomized
    ) -> Vector:
        """The drift."""
        return self.without_noise.vector_field(clock, state, args.log_scale)

    def terms(self, args: Randomized) -> diffrax.AbstractTerm:
        size = flatten(self.network).size
        dtype = self.temperature.dtype
        path = diffrax.UnsafeBrownianPath(
            jax.ShapeDtypeStruct((size,), dtype), args.key, self.levy_area
        )
        noise = lx.DiagonalLinearOperator(jnp.full(size, jnp.sqrt(2 * self.temperature)))
        drift = diffrax.ODETerm(self.vector_field)  # pyright: ignore[reportArgumentType]
        return diffrax.MultiTerm(drift, diffrax.ControlTerm(lambda *_: noise, path))
