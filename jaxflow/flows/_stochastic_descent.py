"""Gradient descent on a few samples at a time.

In step `k` a set `B_k` of `b` of the `n` samples is drawn, uniformly and independently of
all others, and the loss of all samples is replaced by

    (n/b) Σ_{i ∈ B_k} ℓ(H(x_i; w), y_i),

whose mean it is. A term of the loss that is a function of the weights alone stays whole.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Real, UInt32

from ..tasks import AbstractTask
from ._descent import DescentFlow, DescentTerm
from ._gradients import downhill_on_samples, less_penalty, outputs_at, plus_penalty
from ._randomized import AbstractRandomizedFlow, Randomized

Vector = Float[Array, " parameters"]


class StochasticDescentFlow(AbstractRandomizedFlow):
    """The negative gradient on a few samples, drawn by the number of the step."""

    without_noise: DescentFlow
    key_data: UInt32[Array, " words"]
    batch_size: int = eqx.field(static=True)

    def vector_field(
        self, clock: Real[Array, ""], state: Vector, args: Randomized
    ) -> Vector:
        few, factor = self._few(clock, args)
        on_samples = factor * downhill_on_samples(self.network, few, state)
        return less_penalty(on_samples, self.network, few, state)

    def loss(
        self, clock: Real[Array, ""], state: Vector, args: Randomized
    ) -> Float[Array, ""]:
        """The loss of which the field is the negative gradient."""
        few, factor = self._few(clock, args)
        on_samples = factor * few.total_loss(outputs_at(self.network, few, state))
        return plus_penalty(on_samples, self.network, few, state)

    def terms(self, args: Randomized) -> diffrax.AbstractTerm:
        return DescentTerm(self.vector_field, self.loss)  # pyright: ignore[reportCallIssue]

    def _few(self, clock, args) -> tuple[AbstractTask, Any]:
        """Some samples, and by what their loss is multiplied, so that its mean is right."""
        task = self.without_noise.task
        few = task.sample(self.key_of_step(clock, args), self.batch_size)
        factor = task.num_samples / self.batch_size * few.divisor / task.divisor
        return few, factor

    def key_of_step(self, clock: Real[Array, ""], args: Randomized) -> PRNGKeyArray:
        """The random key with which the samples of a step are drawn."""
        return jax.random.fold_in(args.key, clock.astype(jnp.uint32))
