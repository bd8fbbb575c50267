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
from ._temperature import OverTime, Stages

Vector = Float[Array, " parameters"]


class LangevinFlow(AbstractRandomizedFlow):
    """The weights under gradient flow and noise of a temperature, in the time `t`.

    Steps have to be of constant size and none may be tried again: the path of the noise
    belongs to its steps.
    """

    without_noise: CartesianFlow  # of order `None`: plain weights and plain time
    temperature: Stages | OverTime
    key_data: UInt32[Array, " words"]
    levy_area: type = eqx.field(static=True)  # what the solver needs of a Brownian path
    repeatable: ClassVar[bool] = False

    def vector_field(
        self, clock: Real[Array, ""], state: Vector, args: Randomized
    ) -> Vector:
        """The drift."""
        return self.without_noise.vector_field(clock, state, args.log_scale)

    def terms(self, args: Randomized) -> diffrax.AbstractTerm:
        weights = flatten(self.network)
        path = diffrax.UnsafeBrownianPath(
            jax.ShapeDtypeStruct(weights.shape, weights.dtype), args.key, self.levy_area
        )
        noise = lx.DiagonalLinearOperator(jnp.ones_like(weights))
        drift = diffrax.ODETerm(self.vector_field)  # pyright: ignore[reportArgumentType]
        heated = HeatedPath(path, self.temperature)
        return diffrax.MultiTerm(drift, diffrax.ControlTerm(lambda *_: noise, heated))


class HeatedPath(diffrax.AbstractPath):
    """`sqrt(2T) dB`, with the temperature in the middle of each step.

    So the variance of the noise is exact where `T` changes between steps, and of second
    order in the step where it changes smoothly.
    """

    path: diffrax.UnsafeBrownianPath
    temperature: Stages | OverTime

    @property
    def t0(self):
        return self.path.t0

    @property
    def t1(self):
        return self.path.t1

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        found = self.path.evaluate(t0, t1, left, use_levy)
        strength = jnp.sqrt(2 * self.temperature.at((t0 + t1) / 2))
        times = lambda array: (strength * array).astype(array.dtype)
        if not use_levy:
            return times(found)
        # The increment and its areas, but not the length of the step.
        named = [name for name in ("W", "H", "K") if hasattr(found, name)]
        parts = lambda increment: [getattr(increment, name) for name in named]
        return eqx.tree_at(parts, found, [times(part) for part in parts(found)])
