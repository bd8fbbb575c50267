"""Gradient flow in polar coordinates that also shows its gradient and how that changes.

    F(w) = -∇𝓛(w) = e^((L-1)ρ) G(v),    G(v) = Σ_i J_i(v)ᵀ (-ℓ'(e^(Lρ) H(x_i; v), y_i)),

at fixed `ρ`, for vectors `v` of any length. So `‖∇𝓛‖` is known at every scale, and along
the flow `d log ‖∇𝓛‖ / dτ = ⟨G, DG(v) G⟩ / ‖G‖²` takes one Hessian-vector product.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ._abstract import Snapshot
from ._geometry import safe_norm
from ._gradients import pull_back
from ._polar import AbstractPolarFlow, PolarFlow, PolarState


class WatchedFlow(AbstractPolarFlow):
    """A `PolarFlow` whose snapshots have `log_gradient` and `gradient_rate`.

    Both are computed from the state alone, so that exact stop conditions may read them.
    """

    network: eqx.Module
    polar: PolarFlow

    def enter(self, network: eqx.Module, args: Float[Array, ""]) -> PolarState:
        return self.polar.enter(network, args)

    def vector_field(
        self, clock: Real[Array, ""], state: PolarState, args: Float[Array, ""]
    ) -> PolarState:
        return self.polar.vector_field(clock, state, args)

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: PolarState,
        velocity: PolarState,
        args: Float[Array, ""],
    ) -> Snapshot:
        shown = self.polar.snapshot(clock, state, velocity, args)
        scaled = scaled_gradient(self.polar, shown.log_norm)
        gradient = scaled(shown.direction)
        _, change = jax.jvp(scaled, (shown.direction,), (gradient,))
        size = safe_norm(gradient)
        along = gradient / jnp.where(size > 0, size, 1.0)
        rate = jnp.dot(along, change) / jnp.where(size > 0, size, 1.0)
        return dataclasses.replace(
            shown,
            log_gradient=jnp.log(size) + (self.polar.order - 1) * shown.log_norm,
            gradient_rate=rate,
        )


def scaled_gradient(polar: PolarFlow, log_norm: Float[Array, ""]):
    """The function `G` at this log-norm: `-∇𝓛(e^ρ v) = e^((L-1)ρ) G(v)`."""

    def weights(outputs):
        return polar.task.residuals(jnp.exp(polar.order * log_norm) * outputs)

    return lambda vector: pull_back(polar.network, polar.task, vector, weights)
