"""The flow of the correlation function of any residual, one for each member.

At a saddle with outputs `H(x_i; w_s)` the weights that are still small follow, to leading
order, the flow of

    N_r(u) = Σ_i ⟨r_i, H(x_i; u)⟩,    r_i = -ℓ'(H(x_i; w_s), y_i),

which is the neural correlation function with the residual `r` in the place of `z`.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..tasks import Task
from ._abstract import Snapshot
from ._elapsed import log_rescaled_time
from ._geometry import safe_norm
from ._gradients import pull_back
from ._polar import (
    AbstractPolarFlow,
    polar_snapshot,
    polar_state,
    polar_velocity,
    PolarGradient,
    PolarState,
    unit,
)


class ResidualFlow(AbstractPolarFlow):
    """`du/ds = ∇N_r(u)` in polar coordinates; a member's `args` are its residual `r`.

    The `loss` of a snapshot is `-N_r(v)`, of the direction, and `log_gradient` is that of
    `‖∇N_r(u)‖`.
    """

    network: eqx.Module
    task: Task  # only its inputs are read
    order: int | float = eqx.field(static=True)

    def enter(self, network: eqx.Module, args: Float[Array, "n out"]) -> PolarState:
        return polar_state(network, lambda state: self._gradient(state, args), self.order)

    def vector_field(
        self, clock: Real[Array, ""], state: PolarState, args: Float[Array, "n out"]
    ) -> PolarState:
        return polar_velocity(state, self._gradient(state, args), self.order)

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: PolarState,
        velocity: PolarState,
        args: Float[Array, "n out"],
    ) -> Snapshot:
        # All from the state alone, so that exact stop conditions may read it.
        gradient = self._gradient(state, args).gradient
        log_size = jnp.log(safe_norm(gradient))
        shown = polar_snapshot(
            clock,
            state,
            velocity,
            log_norm=state.log_growth,
            log_time=log_rescaled_time(state.elapsed, state.log_unit),
            loss=-jnp.dot(unit(state), gradient) / self.order,
            log_pace=jnp.zeros_like(state.log_growth),
        )
        return dataclasses.replace(
            shown, log_gradient=log_size + (self.order - 1) * state.log_growth
        )

    def _gradient(self, state, residual):
        gradient = pull_back(self.network, self.task, unit(state), lambda outputs: residual)
        return PolarGradient(gradient, jnp.zeros_like(state.log_growth))
