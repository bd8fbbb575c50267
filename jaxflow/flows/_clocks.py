"""The clock of the polar flow, and the gradient that belongs to it.

The polar flow is of order one on the clock `τ` as long as the residuals `-ℓ'` are. With
an exponential tail they fall like the loss itself once the data is separated, and `τ`
would have to run to infinity like `t`. Such losses have the clock

    dσ = (𝓛/𝓛(0)) dτ,    𝓛(0) the loss at the origin,

which is `τ` while the weights are small, and on which the gradient is

    𝓛(0) Σ_i J_i(v)ᵀ r_i,    r_i = -∂ log 𝓛/∂ŷ_i,

of order one for ever. Nothing in it underflows: the loss only enters by its logarithm.

**Source:** Lyu and Li (2020), arXiv:1906.05890, and Ji and Telgarsky (2020),
arXiv:2006.06657, whose proofs measure time by `𝓛 dt`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..tasks import Task


class Pull(NamedTuple):
    """What the samples pull their outputs towards, per unit of the flow's clock."""

    weights: Float[Array, "n out"]  # `-ℓ'`, times `dτ/dσ`
    log_pace: Float[Array, ""]  # `log dτ/dσ`


def pull_at(task: Task, outputs: Float[Array, "n out"]) -> Pull:
    """The weights `c_i` of the polar flow at these outputs, and the pace of its clock."""
    if not task.has_margins:
        return Pull(task.residuals(outputs), jnp.zeros((), outputs.dtype))
    log_at_origin = _log_loss_at_origin(task, outputs)
    weights = jnp.exp(log_at_origin) * task.relative_residuals(outputs)
    return Pull(weights, log_at_origin - task.log_loss(outputs))


def is_separated(task: Task, outputs: Float[Array, "n out"]) -> Bool[Array, ""]:
    """Whether the loss is below that of one sample at the origin, `𝓛(0)/n`."""
    at_origin = _log_loss_at_origin(task, outputs) - jnp.log(float(task.num_samples))
    return task.log_loss(outputs) < at_origin


def _log_loss_at_origin(task: Task, outputs: Float[Array, "n out"]) -> Float[Array, ""]:
    return task.log_loss(jnp.zeros_like(outputs))
