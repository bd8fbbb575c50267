"""The limit δ → 0: the flow of the neural correlation function, in polar coordinates.

In the limit the weights `c_i` of the polar flow are `z_i = -ℓ'(0, y_i)` for ever, so the
direction follows Riemannian gradient ascent of `N(w) = Σ_i ⟨z_i, H(x_i; w)⟩` on the unit
sphere, whose rest points are the KKT points of the constrained problem. The log-norm here
is that of `u = w/δ`, and `s` still measures the time, which ends at the blow-up time
`T*` where `u` becomes infinite.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from ..tasks import Task
from ._abstract import Snapshot
from ._elapsed import log_rescaled_time
from ._gradients import outputs_at, pull_back
from ._polar import (
    AbstractPolarFlow,
    polar_snapshot,
    polar_state,
    polar_velocity,
    PolarGradient,
    PolarState,
    unit,
)


class CorrelationFlow(AbstractPolarFlow):
    """The δ → 0 limit of gradient flow of a homogeneous network of order `L`."""

    network: eqx.Module
    task: Task
    order: int | float = eqx.field(static=True)

    def enter(self, network: eqx.Module, args: Float[Array, ""]) -> PolarState:
        return polar_state(network, self._gradient, self.order)

    def vector_field(
        self, clock: Real[Array, ""], state: PolarState, args: Float[Array, ""]
    ) -> PolarState:
        return polar_velocity(state, self._gradient(state), self.order)

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: PolarState,
        velocity: PolarState,
        args: Float[Array, ""],
    ) -> Snapshot:
        outputs = outputs_at(self.network, self.task, unit(state))
        infinite = jnp.full_like(state.elapsed, jnp.inf)
        return polar_snapshot(
            clock,
            state,
            velocity,
            log_norm=state.log_growth,
            log_time=log_rescaled_time(state.elapsed, state.log_unit)
            if self.order <= 2
            else infinite,
            loss=self.task.total_loss(jnp.zeros_like(outputs)),
            log_pace=jnp.zeros_like(state.log_growth),
        )

    def _gradient(self, state):
        weights = self.task.correlation_weights
        gradient = pull_back(self.network, self.task, unit(state), weights)
        return PolarGradient(gradient, jnp.zeros_like(state.log_growth))


def blow_up_time(
    snapshot: Snapshot,
    velocity: PolarState,
    order: int | float,
    at_rest: Bool[Array, "*members"],
) -> Float[Array, "*members"]:
    """The rescaled time `T*` at which the limit flow reaches infinity, of each member.

    Once the direction rests at a KKT point with multiplier `λ = L N`, the norm grows like
    `e^(λτ)` and what is left of the time is `∫ ‖u‖^(2-L) dτ = ‖u‖^(2-L) / ((L-2) λ)`.
    For `L <= 2`, and for members `at_rest` with `N <= 0`, no time is finite. NaN where the
    direction still turns too fast to tell: while it turns at a relative rate `r`, the
    formula is wrong by a share of order `r²` of the time left; a thousandth is accepted.
    """
    multiplier = velocity.log_growth
    if order <= 2:
        return jnp.full_like(multiplier, jnp.inf)
    positive = multiplier > 0
    left = jnp.exp((2 - order) * snapshot.log_norm) / (
        (order - 2) * jnp.where(positive, multiplier, 1.0)
    )
    total = snapshot.rescaled_time + left
    size = jnp.where(snapshot.gradient_norm > 0, snapshot.gradient_norm, 1.0)
    known = (snapshot.turning_rate / size) ** 2 * left <= _ACCEPTED * total
    never = jnp.where(at_rest, jnp.inf, jnp.nan)
    return jnp.where(positive, jnp.where(known, total, jnp.nan), never)


_ACCEPTED = 1e-3
