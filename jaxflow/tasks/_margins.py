"""Losses of margins: what separates the data, and the margin problem of a separated task.

The margin problem is `min ½ ‖w‖²` subject to `q_i(w) >= 1`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._abstract import AbstractTask


def log_loss_at_origin(task: AbstractTask, outputs: Float[Array, "n out"]):
    """`log 𝓛(0)`; only the shape of the network's `outputs` is read."""
    return task.log_loss(jnp.zeros_like(outputs))


def is_separated(task: AbstractTask, outputs: Float[Array, "n out"]) -> Bool[Array, ""]:
    """Whether the loss is below that of any one sample at the origin, `𝓛(0)/n` if alike.

    Then all margins are positive: otherwise one sample alone would cost as much.
    """
    at_origin = task.log_losses_of_margins(task.margins(jnp.zeros_like(outputs)))
    counts = at_origin > -jnp.inf  # those without weight cost nothing
    return task.log_loss(outputs) < jnp.min(jnp.where(counts, at_origin, jnp.inf))


def margin_residual(
    task: AbstractTask, outputs: Float[Array, "n out"], sine: Float[Array, ""]
) -> Float[Array, ""]:
    """How far weights are from a KKT point of the margin problem, up to their norm.

    With the multipliers `λ_i = -∂ log 𝓛/∂q_i >= 0`, the larger of `sine`, that of the angle
    between `w` and `Σ_i λ_i ∇q_i`, and of the failure of complementarity,

        Σ_i λ_i (q_i - q_min) / Σ_i λ_i q_i.

    Both are between zero and one. One where the data is not separated.

    Arguments:
        task: one whose loss has margins.
        outputs: the network's.
        sine: of the angle between `w` and `-∇𝓛(w)`.
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
