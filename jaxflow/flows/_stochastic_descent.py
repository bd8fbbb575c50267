"""Gradient descent on a few samples at a time.

In step `k` a set `B_k` of `b` of the `n` samples is drawn, uniformly and independently of
all others, and the loss of all samples is replaced by

    (n/b) Σ_{i ∈ B_k} ℓ(H(x_i; w), y_i),

whose mean it is.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Real, UInt32

from ._descent import DescentFlow
from ._gradients import downhill
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
        task = self.without_noise.task
        few = task.sample(self.key_of_step(clock, args), self.batch_size)
        factor = task.num_samples / self.batch_size
        return factor * downhill(self.network, few, state)

    def key_of_step(self, clock: Real[Array, ""], args: Randomized) -> PRNGKeyArray:
        """The random key with which the samples of a step are drawn."""
        return jax.random.fold_in(args.key, clock.astype(jnp.uint32))
