"""The margin problem of a separated task: `min ½ ‖w‖²` subject to `q_i(w) >= 1`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._task import Task


def margin_residual(
    task: Task, outputs: Float[Array, "n out"], sine: Float[Array, ""]
) -> Float[Array, ""]:
    """How far weights are from a KKT point of the margin problem, up to their norm.

    With the multipliers `λ_i = -∂ log 𝓛/∂q_i >= 0`, the larger of `sine`, that of the angle
    between `w` and `Σ_i λ_i ∇q_i`, and of the failure of complementarity,

        Σ_i λ_i (q_i - q_min) / Σ_i λ_i q_i.

    Both are between zero and one. One where the data is not separated.

    **Arguments:** a `task` whose loss has margins, the network's `outputs`, and `sine`.
    """
    margins = task.margins(outputs)
    multipliers = -jax.grad(task.log_loss_of_margins)(margins)
    least = jnp.min(margins)
    separated = least > 0
    # No constraint where a margin is infinite, as for the class that is the label.
    finite = jnp.where(jnp.isfinite(margins), margins, 0.0)
    excess = jnp.where(jnp.isfinite(margins), margins - least, 0.0)
    mean = jnp.sum(multipliers * finite)
    gap = jnp.sum(multipliers * excess) / jnp.where(separated, mean, 1.0)
    return jnp.where(separated, jnp.maximum(sine, gap), jnp.ones_like(sine))
