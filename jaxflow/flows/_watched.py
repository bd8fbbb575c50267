"""Gradient flow in polar coordinates that also shows its gradient and how that changes.

    F(w) = -∇𝓛(w) = e^((L-1)ρ) G(v),    G(v) = Σ_i J_i(v)ᵀ (-ℓ'(e^(Lρ) H(x_i; v), y_i)),

at fixed `ρ`, for vectors `v` of any length. So `‖∇𝓛‖` is known at every scale, and along
the flow `d log ‖∇𝓛‖ / dτ = ⟨G, DG(v) G⟩ / ‖G‖²` takes one Hessian-vector product.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from .._arrays import ratio
from ._abstract import Snapshot
from ._geometry import safe_norm
from ._gradients import pull_back
from ._polar import AbstractPolarFlow, PolarFlow, PolarState


class WatchedFlow(AbstractPolarFlow):
    """A `PolarFlow` whose snapshots have `log_gradient` and `gradient_rate`.

    Both are computed from the state alone, so that exact stop conditions may read them.
    """

    polar: PolarFlow

    @property
    def network(self) -> eqx.Module:  # pyright: ignore
        return self.polar.network

    @property
    def shows(self) -> tuple[str, ...]:  # pyright: ignore
        return (*self.polar.shows, "log_gradient", "gradient_rate")

    @property
    def sides(self):
        return self.polar.sides

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
        rate = ratio(jnp.dot(ratio(gradient, size), change), size)
        return shown.showing(
            log_gradient=jnp.log(size) + (self.polar.order - 1) * shown.log_norm,
            gradient_rate=rate,
        )


def scaled_gradient(polar: PolarFlow, log_norm: Float[Array, ""]):
    """The function `G` at this log-norm: `-∇𝓛(e^ρ v) = e^((L-1)ρ) G(v)`."""

    def residuals(outputs):
        return polar.task.residuals(jnp.exp(polar.order * log_norm) * outputs)

    return lambda vector: pull_back(polar.network, polar.task, vector, residuals)
