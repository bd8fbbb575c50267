"""Gradient flow in the weights themselves.

For a homogeneous network of order `L` in rescaled form, `u = w/δ`, `s = δ^(L-2) t`:

    du/ds = Σ_i J_i(u)ᵀ (-ℓ'(δ^L H(x_i; u), y_i)),

in which nothing under- or overflows at the start, whatever the scale δ. For any other
network `w` and the plain time `t`: the same formulas with δ = 1 after the start.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, Real

from ..networks import flatten
from ..solvers import ErrorView, Tolerances
from ..tasks import Task
from ._abstract import AbstractNetworkFlow, Snapshot
from ._geometry import log_norm_and_direction, safe_norm, tangent_part
from ._gradients import outputs_at, pull_back

Vector = Float[Array, " parameters"]


class AbstractCartesianFlow(AbstractNetworkFlow):
    """What flows have in common whose state is the vector of weights."""

    @staticmethod
    def drives(state: Vector) -> Vector:
        return jnp.ones_like(state)

    @staticmethod
    def view_error(view: ErrorView, tolerances: Tolerances) -> ErrorView:
        return view

    @staticmethod
    def error_norm(scaled_error: Any) -> Float[Array, ""]:
        return optx.rms_norm(scaled_error)


class CartesianFlow(AbstractCartesianFlow):
    """Gradient flow, rescaled if `order` is a number and plain if it is `None`."""

    network: eqx.Module
    task: Task
    order: int | float | None = eqx.field(static=True)

    def enter(self, network: eqx.Module, args: Float[Array, ""]) -> Vector:
        weights = flatten(network)
        return weights if self.order is not None else jnp.exp(args) * weights

    def vector_field(
        self, clock: Real[Array, ""], state: Vector, args: Float[Array, ""]
    ) -> Vector:
        return pull_back(
            self.network,
            self.task,
            state,
            lambda outputs: self.task.residuals(self._true_outputs(outputs, args)),
        )

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: Vector,
        velocity: Vector,
        args: Float[Array, ""],
    ) -> Snapshot:
        log_norm, direction = log_norm_and_direction(state)
        outputs = outputs_at(self.network, self.task, state)
        return Snapshot(
            clock=clock,
            direction=direction,
            log_norm=log_norm if self.order is None else log_norm + args,
            rescaled_time=clock,
            log_time=jnp.log(clock) + self._log_unit_of_time(args),
            loss=self.task.total_loss(self._true_outputs(outputs, args)),
            gradient_norm=safe_norm(velocity),
            turning_rate=safe_norm(tangent_part(velocity, direction)),
        )

    def clock_at_rescaled_time(self, rescaled_time, args):
        return rescaled_time

    def clock_at_log_time(self, log_time, args):
        return jnp.exp(log_time - self._log_unit_of_time(args))

    def _true_outputs(self, outputs, args):
        """`H(x; w) = δ^L H(x; u)`."""
        return outputs if self.order is None else jnp.exp(self.order * args) * outputs

    def _log_unit_of_time(self, args):
        """`log(t/s) = (2-L) log δ`; zero where the clock is the time itself."""
        return jnp.zeros_like(args) if self.order is None else (2 - self.order) * args
