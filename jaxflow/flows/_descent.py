"""Gradient descent as a flow whose clock counts steps.

The vector field is `-∇𝓛(w)` in the physical weights; an optimizer turns it into steps
(`jaxflow.solvers.Updates`), so descent runs in the same lanes as every flow.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from ..networks import flatten
from ..tasks import AbstractTask
from ._abstract import Snapshot, snapshot
from ._cartesian import AbstractCartesianFlow, SHOWN_OF_WEIGHTS
from ._geometry import log_norm_and_direction, safe_norm, tangent_part
from ._gradients import downhill, outputs_at, plus_penalty

Vector = Float[Array, " parameters"]


class DescentTerm(diffrax.AbstractTerm):
    """The negative gradient of a loss, with the loss itself.

    Some optimizers ask for its value, or search along a line.

    Arguments:
        field: a function of (clock, weights, args).
        loss: a function of the same.
    """

    field: Callable[[Real[Array, ""], Vector, Any], Vector]
    loss: Callable[[Real[Array, ""], Vector, Any], Float[Array, ""]]

    def vf(self, t, y, args):
        return self.field(jnp.asarray(t), y, args)

    def contr(self, t0, t1, **kwargs):
        return t1 - t0

    def prod(self, vf, control):
        return control * vf


class DescentFlow(AbstractCartesianFlow):
    """The negative gradient of the loss at the weights, for discrete optimizers.

    An optimizer has steps and no time: momentum and Adam are no discretization of the
    flow, and even for sgd(η) the time η k is known to the caller alone.
    """

    network: eqx.Module
    task: AbstractTask
    shows = ("clock", *SHOWN_OF_WEIGHTS)

    def enter(self, network: eqx.Module, args: Float[Array, ""]) -> Vector:
        return jnp.exp(args) * flatten(network)

    def vector_field(
        self, clock: Real[Array, ""], state: Vector, args: Float[Array, ""]
    ) -> Vector:
        return downhill(self.network, self.task, state)

    def loss(
        self, clock: Real[Array, ""], state: Vector, args: Float[Array, ""]
    ) -> Float[Array, ""]:
        """The loss that the field is the negative gradient of."""
        loss = self.task.total_loss(outputs_at(self.network, self.task, state))
        return plus_penalty(loss, self.network, self.task, state)

    def terms(self, args: Float[Array, ""]) -> diffrax.AbstractTerm:
        return DescentTerm(self.vector_field, self.loss)  # pyright: ignore[reportCallIssue]

    def snapshot(
        self,
        clock: Real[Array, ""],
        state: Vector,
        velocity: Vector,
        args: Float[Array, ""],
    ) -> Snapshot:
        log_norm, direction = log_norm_and_direction(state)
        return snapshot(
            direction,
            clock=clock,
            log_norm=log_norm,
            loss=self.loss(clock, state, args),
            gradient_norm=safe_norm(velocity),
            turning_rate=safe_norm(tangent_part(velocity, direction)),
        )

    def clock_at(self, quantity, value, args):
        return jnp.asarray(value) if quantity == "clock" else None
