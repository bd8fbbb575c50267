"""Gradient flow in the weights themselves.

For a homogeneous network of order `L` in rescaled form, `u = w/δ`, `s = δ^(L-2) t`:

    du/ds = Σ_i J_i(u)ᵀ (-ℓ'(δ^L H(x_i; u), y_i)),

in which nothing under- or overflows at the start, whatever the scale δ. For any other
network `w` and the plain time `t`: the same formulas with δ = 1 after the start.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..networks import flatten
from ..tasks import AbstractTask
from ._abstract import AbstractPlainFlow, Snapshot, snapshot
from ._geometry import log_norm_and_direction, safe_norm, tangent_part
from ._gradients import downhill, outputs_at, plus_penalty
from ._sides import sides_of_flow, sides_of_loss

Vector = Float[Array, " parameters"]

SHOWN_OF_WEIGHTS = ("log_norm", "loss", "gradient_norm", "turning_rate")
TIMES = ("rescaled_time", "log_time", "time")


class AbstractCartesianFlow(AbstractPlainFlow):
    """A flow whose state is the vector of weights."""

    @staticmethod
    def weights(state: Vector) -> Vector:
        return state


class CartesianFlow(AbstractCartesianFlow):
    """Gradient flow, rescaled if `order` is a number and plain if it is `None`."""

    network: eqx.Module
    task: AbstractTask
    order: int | float | None = eqx.field(static=True)
    shows = (*TIMES, *SHOWN_OF_WEIGHTS)

    @property
    def sides(self):
        if self.order is None:
            return sides_of_loss(self.network, self.task, self.weights)
        return sides_of_flow(self.network, self.task, self.weights, self.true_outputs)

    def enter(self, network: eqx.Module, args: Float[Array, ""]) -> Vector:
        weights = flatten(network)
        return weights if self.order is not None else jnp.exp(args) * weights

    def vector_field(
        self, clock: Real[Array, ""], state: Vector, args: Float[Array, ""]
    ) -> Vector:
        scaled = lambda outputs: self._true_outputs(outputs, args)
        return downhill(self.network, self.task, state, scaled)

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: Vector,
        velocity: Vector,
        args: Float[Array, ""],
    ) -> Snapshot:
        log_norm, direction = log_norm_and_direction(state)
        outputs = self.true_outputs(state, args)
        loss = self.task.total_loss(outputs)
        return snapshot(
            direction,
            log_norm=log_norm if self.order is None else log_norm + args,
            rescaled_time=clock,
            log_time=jnp.log(clock) + self._log_unit_of_time(args),
            loss=plus_penalty(loss, self.network, self.task, state),
            gradient_norm=safe_norm(velocity),
            turning_rate=safe_norm(tangent_part(velocity, direction)),
        )

    def clock_at(self, quantity, value, args):
        return time_on_clock(quantity, value, self._log_unit_of_time(args))

    def true_outputs(self, state: Vector, args: Float[Array, ""]) -> Float[Array, "n out"]:
        """`H(x; w)` of all samples."""
        outputs = outputs_at(self.network, self.task, state)
        return self._true_outputs(outputs, args)

    def _true_outputs(self, outputs, args):
        """`H(x; w) = δ^L H(x; u)`."""
        return outputs if self.order is None else jnp.exp(self.order * args) * outputs

    def _log_unit_of_time(self, args):
        """`log(t/s) = (2-L) log δ`; zero where the clock is the time itself."""
        return jnp.zeros_like(args) if self.order is None else (2 - self.order) * args


def time_on_clock(
    quantity: str, value: Float[Array, ""], log_unit: Float[Array, ""]
) -> Float[Array, ""] | None:
    """The clock at a time, for a flow whose clock is the rescaled time.

    Given which of the three times has the `value`, and the logarithm of `t/s`.
    """
    if quantity == "rescaled_time":
        return value
    if quantity == "log_time":
        return jnp.exp(value - log_unit)
    if quantity == "time":
        return value * jnp.exp(-log_unit)
    return None
