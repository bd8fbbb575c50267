"""Gradient descent on a few samples at a time.

In step `k` a set `B_k` of `b` of the `n` samples is drawn, uniformly and independently of
all others, and the loss of all samples is replaced by

    (n/b) Σ_{i ∈ B_k} ℓ(H(x_i; w), y_i),

whose mean it is.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

from ._descent import DescentFlow
from ._gradients import pull_back
from ._randomized import AbstractRandomizedFlow, Randomized

Vector = Float[Array, " parameters"]


class StochasticDescentFlow(AbstractRandomizedFlow):
    """The negative gradient on a few samples; the clock counts steps and tells which."""

    network: eqx.Module
    without_noise: DescentFlow
    batch_size: int = eqx.field(static=True)

    def terms(self, args: Randomized) -> diffrax.AbstractTerm:
        return diffrax.ODETerm(self.vector_field)  # pyright: ignore[reportArgumentType]

    def vector_field(
        self, clock: Real[Array, ""], state: Vector, args: Randomized
    ) -> Vector:
        task = self.without_noise.task
        rows = self.batch(clock, args)
        few = eqx.tree_at(
            lambda t: (t.inputs, t.targets), task, (task.inputs[rows], task.targets[rows])
        )
        weight = task.num_samples / self.batch_size
        return weight * pull_back(self.network, few, state, few.residuals)

    def batch(self, clock: Real[Array, ""], args: Randomized) -> Int[Array, " batch"]:
        """The samples of a step."""
        key = jax.random.fold_in(args.key, clock.astype(jnp.uint32))
        num = self.without_noise.task.num_samples
        return jax.random.permutation(key, num)[: self.batch_size]
